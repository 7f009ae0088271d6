/* roll.c - the roll call: every operator of ops.def has cases, or this does not link. */
#include "ops.h"

#define OP(name, n_in, meaning) extern const struct op_cases cases_##name;
#include "../../core/ops.def"
#undef OP

const struct op_cases *const op_cases_of[QN_OP_COUNT] = {
#define OP(name, n_in, meaning) [QN_OP_##name] = &cases_##name,
#include "../../core/ops.def"
#undef OP
};
