/* conv2d.c - y[n,o] = act(sum_c x[n,c] * w[o,c] + bias[o]) through cuDNN; see conv.h. */
#include "conv.h"

CONV_KERNEL(conv2d, qn__cuda_conv_variants, .direction = QN_DNN_FORWARD, .x = 0, .w = 1, .y = QN_CONV_RESULT);
