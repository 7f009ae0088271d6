/* weights.h - how a layer's weights start. Private to layers/. */
#ifndef QN_LAYERS_WEIGHTS_H
#define QN_LAYERS_WEIGHTS_H
#include "../include/quern/core.h"

/* What the caller asked for (He's normal if nothing), with the layer's own fans unless they were given. */
static inline qn_init qn__weight_init(const qn_init *asked, int64_t fan_in, int64_t fan_out)
{
    qn_init init = *asked;
    if (init.kind == QN_INIT_ZEROS) init.kind = QN_INIT_HE;
    if (init.fan_in == 0) init.fan_in = fan_in;
    if (init.fan_out == 0) init.fan_out = fan_out;
    return init;
}
/* The same for tables and projections of transformers: normal with deviation 0.02 (Radford et al. 2018). */
static inline qn_init qn__narrow_init(const qn_init *asked)
{
    if (asked && asked->kind != QN_INIT_ZEROS) return *asked;
    return (qn_init){ .kind = QN_INIT_NORMAL, .b = 0.02 };
}
#endif
