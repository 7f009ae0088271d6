/* loss_scale.c - state [3]: scale, finite steps in a row, steps that overflowed; one step of the rule. */
#include "cpu.h"

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    (void)err;
    const struct qn__loss_scale_attr *attr = step->args.attr;
    REAL *state = qn__real(&step->args.x[0]);
    bool finite = *(const uint8_t *)step->args.x[1].data != 0;
    REAL least = (REAL)attr->least, most = (REAL)attr->most;
    if (!finite) {
        REAL scale = state[0] * (REAL)attr->backoff;
        state[0] = scale > least ? scale : least;
        state[1] = 0;
        state[2] += 1;
    } else if (state[1] + 1 >= (REAL)attr->interval) {
        REAL scale = state[0] * (REAL)attr->growth;
        state[0] = scale < most ? scale : most;
        state[1] = 0;
    } else {
        state[1] += 1;
    }
    return QN_OK;
}

KERNEL(loss_scale) = { .variants = (const char *const[]){ "one thread", NULL }, .launch = launch };
