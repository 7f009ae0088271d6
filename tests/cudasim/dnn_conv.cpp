/* dnn_conv.cpp - convolutions of the simulated cuDNN, in three directions, in any packed layout.
 *
 * Sums are in f32, in one fixed order, as inaccurate as such a sum may be; a real engine's order is another one. An
 * engine with a flaw has it: inputs cut to TF32's 10 bits, an order that changes from run to run, or sums in 16 bits. */
#include "dnn.h"
#include <atomic>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <new>
#include <stdlib.h>
#include <string.h>

using namespace dnn;

/* ---- tensors ------------------------------------------------------------------------------------------------------ */

size_t dnn::span_of(const Tensor *t)
{
    int64_t last = 0;
    for (int i = 0; i < 4; i++) {
        if (t->dim[i] == 0) return 0;
        last += (t->dim[i] - 1) * t->stride[i];
    }
    return (size_t)last + 1;
}

bool dnn::packed(const Tensor *t, bool nhwc)
{
    static const int orders[2][4] = { { 3, 2, 1, 0 }, { 1, 3, 2, 0 } }; /* innermost first */
    int64_t step = 1;
    for (int i : orders[nhwc]) {
        if (t->dim[i] != 1 && t->stride[i] != step) return false;
        step *= t->dim[i];
    }
    return true;
}

cudnnStatus_t dnn::examine(const Conv *c)
{
    const int64_t *x = c->x.dim, *w = c->w.dim, *y = c->y.dim;
    if (w[1] == 0 || x[1] % w[1]) return fail(CUDNN_STATUS_BAD_PARAM, "convolution: channels of x and w");
    int64_t groups = x[1] / w[1];
    if (groups == 0 || w[0] % groups) return fail(CUDNN_STATUS_BAD_PARAM, "convolution: filters in groups");
    if (x[0] != y[0] || w[0] != y[1]) return fail(CUDNN_STATUS_BAD_PARAM, "convolution: batch or channels of y");
    return CUDNN_STATUS_SUCCESS;
}

static float load(const void *p, cudnnDataType_t type, int64_t i)
{
    if (type == CUDNN_DATA_BFLOAT16) return __bfloat162float(((const __nv_bfloat16 *)p)[i]);
    if (type == CUDNN_DATA_HALF) return __half2float(((const __half *)p)[i]);
    return ((const float *)p)[i];
}
static void store(void *p, cudnnDataType_t type, int64_t i, float v)
{
    if (type == CUDNN_DATA_BFLOAT16)
        ((__nv_bfloat16 *)p)[i] = __float2bfloat16(v);
    else if (type == CUDNN_DATA_HALF)
        ((__half *)p)[i] = __float2half(v);
    else
        ((float *)p)[i] = v;
}
static float to_tf32(float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    u &= 0xffffe000u;
    memcpy(&v, &u, sizeof v);
    return v;
}

/* The tensor as f32 in the order of `axes`, outermost first. */
static float *ordered(const Tensor *t, const void *data, const int (&axes)[4], Flaw flaw)
{
    const int64_t *d = t->dim, *s = t->stride;
    float *out = (float *)malloc((size_t)(d[0] * d[1] * d[2] * d[3]) * sizeof *out), *next = out;
    if (!out) return nullptr;
    for (int64_t a = 0; a < d[axes[0]]; a++)
        for (int64_t b = 0; b < d[axes[1]]; b++)
            for (int64_t c = 0; c < d[axes[2]]; c++)
                for (int64_t e = 0; e < d[axes[3]]; e++) {
                    float v = load(data, t->type, a * s[axes[0]] + b * s[axes[1]] + c * s[axes[2]] + e * s[axes[3]]);
                    *next++ = flaw == TF32 ? to_tf32(v) : v;
                }
    return out;
}

/* ---- the sums -------------------------------------------------------------------------------------------------------- */

__attribute__((optimize("O3"))) static void add(float *__restrict out, const float *__restrict row, float by, int64_t n)
{
    for (int64_t i = 0; i < n; i++) out[i] += by * row[i];
}

struct Work {
    Conv conv;
    Addresses at;
    size_t workspace;
    Flaw flaw;
};

static const int NHWC[4] = { 0, 2, 3, 1 };

/* x [n][h][w][c], y [n][oh][ow][o]; forward takes w as [kh][kw][c of a group][o], the gradients as [o][kh][kw][c of a
 * group]. One of the three is the sum. order: images first to last or last to first. */
static void convolve(const Conv *c, float *x, float *w, float *y, bool backwards)
{
    int64_t C = c->x.dim[1], O = c->y.dim[1], cg = c->w.dim[1], og = O / (C / cg), R = c->w.dim[2], S = c->w.dim[3];
    for (int64_t k = 0; k < c->x.dim[0]; k++) {
        int64_t n = backwards ? c->x.dim[0] - 1 - k : k;
        for (int64_t i = 0; i < c->y.dim[2]; i++)
            for (int64_t j = 0; j < c->y.dim[3]; j++)
                for (int64_t t = 0; t < R * S; t++) {
                    int64_t row = i * c->stride[0] - c->pad[0] + t / S * c->dilation[0];
                    int64_t col = j * c->stride[1] - c->pad[1] + t % S * c->dilation[1];
                    if (row < 0 || row >= c->x.dim[2] || col < 0 || col >= c->x.dim[3]) continue;
                    int64_t tap = c->flipped ? R * S - 1 - t : t;
                    float *xs = x + ((n * c->x.dim[2] + row) * c->x.dim[3] + col) * C;
                    float *ys = y + ((n * c->y.dim[2] + i) * c->y.dim[3] + j) * O;
                    if (c->direction == FORWARD)
                        for (int64_t ch = 0; ch < C; ch++)
                            add(ys + ch / cg * og, w + (tap * cg + ch % cg) * O + ch / cg * og, xs[ch], og);
                    else
                        for (int64_t o = 0; o < O; o++) {
                            float *ws = w + (o * R * S + tap) * cg, *group = xs + o / og * cg;
                            if (c->direction == GRAD_X)
                                add(group, ws, ys[o], cg);
                            else
                                add(ws, group, ys[o], cg);
                        }
                }
    }
}

static float finish(const Work *k, float sum, const void *old, int64_t at, int64_t channel)
{
    const Conv *c = &k->conv;
    const Tensor *out = c->direction == FORWARD ? &c->y : c->direction == GRAD_X ? &c->x : &c->w;
    if (k->flaw == SHORT_SUMS) sum = __bfloat162float(__float2bfloat16(sum));
    float v = c->alpha * sum;
    if (c->beta != 0) v += c->beta * load(old, out->type, at);
    if (c->has_bias) v += load(k->at.bias, c->bias.type, channel * c->bias.stride[1]);
    return c->relu && v < 0 ? 0 : v;
}

/* The sum, in the order of `axes`, to where the result is. */
static void put(const Work *k, const float *sum, const Tensor *out, void *data, const int (&axes)[4])
{
    const int64_t *d = out->dim, *s = out->stride;
    for (int64_t a = 0; a < d[axes[0]]; a++)
        for (int64_t b = 0; b < d[axes[1]]; b++)
            for (int64_t c = 0; c < d[axes[2]]; c++)
                for (int64_t e = 0; e < d[axes[3]]; e++) {
                    int64_t at = a * s[axes[0]] + b * s[axes[1]] + c * s[axes[2]] + e * s[axes[3]];
                    store(data, out->type, at, finish(k, *sum++, data, at, e));
                }
    cudasim_written(data, span_of(out) * size_of(out->type));
}

static void read(const Tensor *t, const void *data, const char *what)
{
    cudasim_read(data, span_of(t) * size_of(t->type), what);
}

static int run(void *state)
{
    static std::atomic<unsigned> runs; /* of engines that add in any order */
    const Work *k = (const Work *)state;
    const Conv *c = &k->conv;
    const int forward[4] = { 2, 3, 1, 0 };
    Direction d = c->direction;
    if (d != GRAD_X || c->beta != 0) read(&c->x, k->at.x, "cuDNN: x");
    if (d != GRAD_W || c->beta != 0) read(&c->w, k->at.w, "cuDNN: w");
    if (d != FORWARD || c->beta != 0) read(&c->y, k->at.y, "cuDNN: y");
    if (c->has_bias) read(&c->bias, k->at.bias, "cuDNN: bias");
    if (k->workspace) memset(k->at.workspace, 0xff, k->workspace);
    float *x = ordered(&c->x, k->at.x, NHWC, k->flaw), *y = ordered(&c->y, k->at.y, NHWC, k->flaw);
    float *w = d == FORWARD ? ordered(&c->w, k->at.w, forward, k->flaw) : ordered(&c->w, k->at.w, NHWC, k->flaw);
    const Tensor *out = d == FORWARD ? &c->y : d == GRAD_X ? &c->x : &c->w;
    float *sum = d == FORWARD ? y : d == GRAD_X ? x : w;
    bool good = x && y && w;
    if (good) {
        memset(sum, 0, (size_t)(out->dim[0] * out->dim[1] * out->dim[2] * out->dim[3]) * sizeof *sum);
        convolve(c, x, w, y, k->flaw == ANY_ORDER && runs++ % 2);
        const void *data = d == FORWARD ? k->at.y : d == GRAD_X ? k->at.x : k->at.w;
        put(k, sum, out, const_cast<void *>(data), NHWC);
    }
    free(x);
    free(w);
    free(y);
    return good ? CUDASIM_DONE : CUDASIM_FAILED;
}

static void release(void *state) { delete (Work *)state; }

/* ---- the call --------------------------------------------------------------------------------------------------------- */

static bool there(const Tensor *t, const void *p, const char *what)
{
    return cudasim_range(p, span_of(t) * size_of(t->type), -1, what);
}

static bool overlap(const Tensor *a, const void *p, const Tensor *b, const void *q)
{
    const char *pe = (const char *)p + span_of(a) * size_of(a->type),
               *qe = (const char *)q + span_of(b) * size_of(b->type);
    return (const char *)p < qe && (const char *)q < pe;
}

cudnnStatus_t dnn::enqueue(cudaStream_t stream, const char *what, const Conv *c, const Addresses *at, size_t workspace,
                           Flaw flaw)
{
    bool good = there(&c->x, at->x, "cuDNN: x") && there(&c->w, at->w, "cuDNN: w") && there(&c->y, at->y, "cuDNN: y") &&
                (!c->has_bias || there(&c->bias, at->bias, "cuDNN: bias")) &&
                (!workspace || cudasim_range(at->workspace, workspace, -1, "cuDNN: workspace"));
    if (!good) return fail(CUDNN_STATUS_EXECUTION_FAILED, "%s: an address is not the device's", what);
    if (overlap(&c->x, at->x, &c->y, at->y) || overlap(&c->x, at->x, &c->w, at->w) ||
        overlap(&c->w, at->w, &c->y, at->y)) {
        cudasim_report("%s: tensors of a convolution lie on each other", what);
        return fail(CUDNN_STATUS_EXECUTION_FAILED, "%s: tensors lie on each other", what);
    }
    Work *w = new (std::nothrow) Work{ *c, *at, workspace, flaw };
    if (!w) return fail(CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED, "%s: no memory", what);
    return cudasim_enqueue(stream, what, run, w, release) ? fail(CUDNN_STATUS_EXECUTION_FAILED, "%s: stream", what)
                                                          : CUDNN_STATUS_SUCCESS;
}
