/* reorder.cu - [N,C,H,W] from one channel block to another, any element type. [N][C/b][H W][b] is what a block b means.
 *
 * Compulsory bytes: x read once, y written once. Between plain and a block every block of channels is a matrix [b][H W]
 * that is turned over (move.cu), coalesced on both sides; NHWC is the block of all channels. Between two blocks the
 * elements go one by one, in y's order: no network asks for it on a GPU. */
#include "move.h"

enum { COPY, TILED, THIN, BETWEEN, THREADS = 256 };

struct between {
    struct divisor y_block, pixels, y_blocks;
    int32_t narrow;
    int64_t x_block, x_blocks;
};

template <class U>
__global__ void __launch_bounds__(THREADS)
    between_blocks(U *to, const U *from, int64_t n, const __grid_constant__ struct between b)
{
    int64_t step = (int64_t)gridDim.x * THREADS;
    for (int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x; at < n; at += step) {
        int64_t q = quotient(b.y_block, at, b.narrow), inner = at - q * b.y_block.by;
        int64_t i = quotient(b.pixels, q, b.narrow), pixel = q - i * b.pixels.by;
        int64_t image = quotient(b.y_blocks, i, b.narrow);
        uint32_t channel = (uint32_t)((i - image * b.y_blocks.by) * b.y_block.by + inner);
        uint32_t block = channel / (uint32_t)b.x_block, lane = channel % (uint32_t)b.x_block;
        to[at] = from[((image * b.x_blocks + block) * b.pixels.by + pixel) * b.x_block + lane];
    }
}

/* Matrices [b][H W] <-> [H W][b]; b: the block that is not plain. */
static struct turn turn_of(const struct qn__view *x, int32_t to)
{
    struct turn t = {};
    int64_t pixels = x->dim[2] * x->dim[3], block = to == QN_PLAIN ? x->block : to;
    t.size = (int64_t)qn_dtype_size(x->dtype);
    t.rows = t.to_row = to == QN_PLAIN ? pixels : block;
    t.columns = t.from_row = to == QN_PLAIN ? block : pixels;
    t.n_outer = 1;
    t.outer[0] = x->dim[0] * (x->dim[1] / block);
    t.to_step[0] = t.from_step[0] = pixels * block;
    return t;
}

static int variant_of(const struct qn__view *x, int32_t to)
{
    int32_t block = to == QN_PLAIN ? x->block : to;
    bool whole = block == x->dim[1] && x->dim[2] * x->dim[3] == 1; /* one pixel: both orders are the same */
    if (x->count == 0 || x->block == to || (whole && (x->block == QN_PLAIN || to == QN_PLAIN))) return COPY;
    if (x->block != QN_PLAIN && to != QN_PLAIN) return BETWEEN;
    struct turn t = turn_of(x, to);
    enum qn__turn_variant how = qn__cuda_turn_variant(&t);
    return how == QN_TURN_TILED ? TILED : how == QN_TURN_THIN ? THIN : BETWEEN;
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c)
{
    const struct qn__reorder_attr *attr = (const struct qn__reorder_attr *)a->attr;
    c->x_block[0] = a->x[0].block;
    c->y_block = attr->block;
    c->variant = variant_of(&a->x[0], attr->block);
    return QN_OK;
}

static qn_status launch_between(const struct qn__step *s, qn_error *err)
{
    const struct qn__view *x = &s->args.x[0], *y = &s->args.y;
    struct between b = {};
    b.y_block = divisor_of(y->block);
    b.pixels = divisor_of(y->dim[2] * y->dim[3]);
    b.y_blocks = divisor_of(y->dim[1] / y->block);
    b.narrow = y->count < INT32_MAX;
    b.x_block = x->block;
    b.x_blocks = x->dim[1] / x->block;
    unsigned grid = grid_for(&s->args, ceil_div(y->count, THREADS), THREADS, 4);
    return qn__cuda_check(with_element((int64_t)qn_dtype_size(y->dtype),
                                       [&](auto u) {
                                           using U = decltype(u);
                                           return LAUNCH(between_blocks<U>, (grid), (THREADS), 0, s->queue->stream,
                                                         (U *)y->data, (const U *)x->data, y->count, b);
                                       }),
                          "between_blocks", s, err);
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    const struct qn__view *x = &s->args.x[0], *y = &s->args.y;
    if (y->count == 0) return QN_OK;
    if (s->choice.variant == BETWEEN) return launch_between(s, err);
    if (s->choice.variant == COPY) {
        struct copy_from c = { 1, { y->count }, { 1 }, 0, (int64_t)qn_dtype_size(y->dtype) };
        return qn__cuda_copy(s, y->data, x->data, &c, err);
    }
    struct turn t = turn_of(x, y->block);
    return qn__cuda_turn(s, y->data, x->data, &t, err);
}

static const char *const variants[] = { "copy", "tiled", "thin", "between_blocks", NULL };
KERNEL(reorder) = { .variants = variants, .pick = pick, .launch = launch };
