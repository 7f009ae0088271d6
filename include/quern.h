/* quern.h - the one header to include; its chapters are in quern/. */
#ifndef QUERN_H
#define QUERN_H
#include "quern/base.h"
#include "quern/checkpoint.h"
#include "quern/core.h"
#include "quern/data.h"
#include "quern/device.h"
#include "quern/layers.h"
#include "quern/log.h"
#include "quern/metrics.h"
#include "quern/optim.h"
#include "quern/plan.h"
#include "quern/plot.h"
#include "quern/profile.h"
#include "quern/recipe.h"
#include "quern/safetensors.h"
#include "quern/search.h"
#include "quern/train.h"
#include "quern/tuning.h"
#endif
