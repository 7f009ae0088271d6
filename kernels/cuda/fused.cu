/* fused.cu - every pointwise row of ops.def, chains of them, casts between all pairs of element types, and broadcast.
 *
 * Compulsory bytes: every operand read once, y written once; nothing in between leaves the multiprocessor. Arithmetic is
 * in float (in 64-bit integers where only whole numbers take part); y is rounded to its element type once, at the end.
 *
 * vector: one row whose operands have y's element type and lie in y's order, or are one number. A thread has eight
 *   elements at a time, in access of 16 bytes: one switch over the rows for all of them.
 * chain: a program of rows, any element types, any strides: an interpreter. The value computed last is in registers; what
 *   waits stands in columns of shared memory that only their thread touches (program.h), so no array is indexed by a
 *   variable and nothing goes to local memory. About 30 instructions a row, operand or result for eight elements: below
 *   9 a byte moved, what an A100 can issue while it streams, for chains of up to a dozen rows. Access is 16 bytes a
 *   thread where only 16-bit elements or only 32-bit ones take part, and as wide as four elements otherwise. An operand
 *   that repeats along y (a bias, a number) is loaded once where a thread meets the same part of it in all its rounds.
 * integers: the same for whole numbers of 32 and 64 bits (comparisons, where, casts), an element a thread. */
#include "functions.h"
#include "program.h"

enum { THREADS = 256 };

/* ---- rows ---------------------------------------------------------------------------------------------- */

/* Compares and the like give another element type than they take. */
static bool keeps_dtype(int op)
{
    return !(op == QN_OP_lt || op == QN_OP_le || op == QN_OP_gt || op == QN_OP_ge || op == QN_OP_eq || op == QN_OP_ne ||
             op == QN_OP_where || op == QN_OP_cast || op == QN_OP_is_finite);
}

/* n elements of one row */
template <int N>
static __device__ __forceinline__ void run_row(int op, float (&y)[N], const float (&xa)[N], const float (&xb)[N],
                                               const float (&xc)[N], float p, float q)
{
    switch (op) {
#define OP(name, n_in, meaning)
#define PW(name, n_in, meaning, expression) \
    case QN_OP_##name: \
        _Pragma("unroll") for (int i = 0; i < N; i++) \
        { \
            float a = xa[i], b = n_in > 1 ? xb[i] : a, c = n_in > 2 ? xc[i] : a; \
            (void)b, (void)c, (void)p, (void)q; \
            y[i] = expression; \
        } \
        break;
#include "../../core/ops.def"
#undef OP
    default: break;
    }
}

/* ---- elements of any type --------------------------------------------------------------------------------- */

struct truth {
    uint8_t v;
};
static __device__ __forceinline__ float widen(float x) { return x; }
static __device__ __forceinline__ float widen(bf16 x) { return to_f32(x); }
static __device__ __forceinline__ float widen(f16 x) { return to_f32(x); }
static __device__ __forceinline__ float widen(int64_t x) { return (float)x; }
static __device__ __forceinline__ float widen(int32_t x) { return (float)x; }
static __device__ __forceinline__ float widen(uint8_t x) { return (float)x; }
static __device__ __forceinline__ float widen(int8_t x) { return (float)x; }
static __device__ __forceinline__ float widen(struct truth x) { return (float)x.v; }

/* Truncation towards zero; out of range saturates, NaN gives 0. */
template <class T> static __device__ __forceinline__ T saturate(float x, T low, T high)
{
    return x >= (float)high ? high : x <= (float)low ? low : x == x ? (T)x : 0;
}
static __device__ __forceinline__ void narrow(float &y, float x) { y = x; }
static __device__ __forceinline__ void narrow(bf16 &y, float x) { y = from_f32<bf16>(x); }
static __device__ __forceinline__ void narrow(f16 &y, float x) { y = from_f32<f16>(x); }
static __device__ __forceinline__ void narrow(int64_t &y, float x) { y = saturate<int64_t>(x, INT64_MIN, INT64_MAX); }
static __device__ __forceinline__ void narrow(int32_t &y, float x) { y = saturate<int32_t>(x, INT32_MIN, INT32_MAX); }
static __device__ __forceinline__ void narrow(int8_t &y, float x)
{
    y = (int8_t)saturate<int32_t>(x, INT8_MIN, INT8_MAX);
}
static __device__ __forceinline__ void narrow(uint8_t &y, float x) { y = (uint8_t)saturate<int32_t>(x, 0, UINT8_MAX); }
static __device__ __forceinline__ void narrow(struct truth &y, float x) { y.v = x != 0; }

template <class F> static __device__ __forceinline__ void on_float(int dtype, F f)
{
    if (dtype == QN_F32)
        f(float());
    else if (dtype == QN_BF16)
        f(bf16());
    else
        f(f16());
}
template <class F> static __device__ __forceinline__ void on_dtype(int dtype, F f)
{
    switch (dtype) {
    case QN_F32: f(float()); break;
    case QN_BF16: f(bf16()); break;
    case QN_F16: f(f16()); break;
    case QN_I64: f(int64_t()); break;
    case QN_I32: f(int32_t()); break;
    case QN_I8: f(int8_t()); break;
    case QN_U8: f(uint8_t()); break;
    default: f(truth()); break;
    }
}

/* Four elements at an address that is a multiple of their size: one access, two for those of 8 bytes. */
template <size_t> struct bits_of;
template <> struct bits_of<4> {
    typedef uint32_t type;
};
template <> struct bits_of<8> {
    typedef uint2 type;
};
template <> struct bits_of<16> {
    typedef uint4 type;
};
template <class T> static __device__ __forceinline__ void load_group(const T *x, T (&v)[GROUP])
{
    if constexpr (sizeof(T) == 8) {
        vec16<T> low = load16(x), high = load16(x + 2);
        v[0] = low.v[0];
        v[1] = low.v[1];
        v[2] = high.v[0];
        v[3] = high.v[1];
    } else {
        typedef typename bits_of<GROUP * sizeof(T)>::type bits;
        union {
            bits b;
            T v[GROUP];
        } u = { *(const bits *)x };
        for (int i = 0; i < GROUP; i++) v[i] = u.v[i];
    }
}
template <class T> static __device__ __forceinline__ void store_group(T *y, const T (&v)[GROUP])
{
    if constexpr (sizeof(T) == 8) {
        vec16<T> low = { { v[0], v[1] } }, high = { { v[2], v[3] } };
        store16(y, low);
        store16(y + 2, high);
    } else {
        typedef typename bits_of<GROUP * sizeof(T)>::type bits;
        union {
            T v[GROUP];
            bits b;
        } u = { { v[0], v[1], v[2], v[3] } };
        *(bits *)y = u.b;
    }
}

/* The elements of y that a thread has in hand: two groups, beside each other (pairs) or a row of threads apart. */
struct hand {
    int64_t at[2], count;
    bool pairs;
};
static __device__ __forceinline__ struct hand hand_of(int64_t tile, int64_t count, bool pairs)
{
    struct hand h = { { 0, 0 }, count, pairs };
    h.at[0] = tile * blockDim.x * ELEMENTS + (int64_t)threadIdx.x * (pairs ? ELEMENTS : GROUP);
    h.at[1] = h.at[0] + (pairs ? GROUP : GROUP * blockDim.x);
    return h;
}

template <class T>
static __device__ __forceinline__ void load_dense(const T *x, const struct hand &h, float (&v)[ELEMENTS])
{
    if constexpr (sizeof(T) == 2) {
        if (h.pairs && h.at[0] + ELEMENTS <= h.count) {
            vec16<T> both = load16(x + h.at[0]);
#pragma unroll
            for (int i = 0; i < ELEMENTS; i++) v[i] = widen(both.v[i]);
            return;
        }
    }
#pragma unroll
    for (int g = 0; g < 2; g++) {
        T four[GROUP];
        if (h.at[g] + GROUP <= h.count) {
            load_group(x + h.at[g], four);
#pragma unroll
            for (int i = 0; i < GROUP; i++) v[GROUP * g + i] = widen(four[i]);
        } else {
#pragma unroll
            for (int i = 0; i < GROUP; i++) v[GROUP * g + i] = h.at[g] + i < h.count ? widen(x[h.at[g] + i]) : 0.0f;
        }
    }
}

template <class T>
static __device__ __forceinline__ void store_dense(T *y, const struct hand &h, const float (&v)[ELEMENTS])
{
    if constexpr (sizeof(T) == 2) {
        if (h.pairs && h.at[0] + ELEMENTS <= h.count) {
            vec16<T> both;
#pragma unroll
            for (int i = 0; i < ELEMENTS; i++) narrow(both.v[i], v[i]);
            store16(y + h.at[0], both);
            return;
        }
    }
#pragma unroll
    for (int g = 0; g < 2; g++) {
        T four[GROUP];
#pragma unroll
        for (int i = 0; i < GROUP; i++) narrow(four[i], v[GROUP * g + i]);
        if (h.at[g] + GROUP <= h.count) {
            store_group(y + h.at[g], four);
        } else {
#pragma unroll
            for (int i = 0; i < GROUP; i++)
                if (h.at[g] + i < h.count) y[h.at[g] + i] = four[i];
        }
    }
}

/* ---- one row, in order ------------------------------------------------------------------------------------ */

struct row {
    void *y;
    const void *x[3];
    int64_t count, tiles;
    int32_t dtype, op, n_in, one; /* one: bit k: x[k] is one number for every element */
    float p, q;
};

static __device__ __forceinline__ void load_row(const struct row &r, int k, const struct hand &h, float (&v)[ELEMENTS])
{
    on_float(r.dtype, [&](auto t) {
        const decltype(t) *x = (const decltype(t) *)r.x[k];
        if (!(r.one >> k & 1)) return load_dense(x, h, v);
        float one = widen(x[0]);
#pragma unroll
        for (int i = 0; i < ELEMENTS; i++) v[i] = one;
    });
}

__global__ void __launch_bounds__(THREADS) pointwise_vector(const __grid_constant__ struct row r)
{
    for (int64_t tile = blockIdx.x; tile < r.tiles; tile += gridDim.x) {
        float a[ELEMENTS], b[ELEMENTS], c[ELEMENTS], y[ELEMENTS];
        struct hand h = hand_of(tile, r.count, r.dtype != QN_F32);
        load_row(r, 0, h, a);
        if (r.n_in > 1) load_row(r, 1, h, b);
        if (r.n_in > 2) load_row(r, 2, h, c);
        run_row<ELEMENTS>(r.op, y, a, b, c, r.p, r.q);
        on_float(r.dtype, [&](auto t) { store_dense((decltype(t) *)r.y, h, y); });
    }
}

/* ---- programs --------------------------------------------------------------------------------------------- */

/* Where the four elements of operand k for y's elements at.. lie; whether they are neighbours that one access takes. */
struct spots {
    int64_t at[GROUP];
    bool together;
};

static __device__ __forceinline__ int64_t lookup(const struct program &p, const struct operand &x, int64_t i)
{
    int64_t offset = 0;
    for (int k = p.n_dims - 1; k > 0; k--) {
        int64_t q = quotient(p.size[k], i, p.narrow);
        offset += (i - q * p.size[k].by) * x.step[k];
        i = q;
    }
    return offset + i * x.step[0];
}

static __device__ __forceinline__ struct spots find(const struct program &p, const struct operand &x, int64_t at)
{
    struct spots s;
    int last = p.n_dims - 1;
    int64_t room = p.size[last].by - (at - quotient(p.size[last], at, p.narrow) * p.size[last].by);
    int64_t first = lookup(p, x, at), step = x.step[last];
    s.together = step == 1 && room >= GROUP && first % GROUP == 0;
#pragma unroll
    for (int i = 0; i < GROUP; i++) s.at[i] = first + i * step;
    if (room < GROUP)
#pragma unroll
        for (int i = 1; i < GROUP; i++)
            if (i >= room) s.at[i] = lookup(p, x, at + i < p.count ? at + i : at);
    return s;
}

template <class T>
static __device__ __forceinline__ void load_spots(const T *x, const struct spots &s, int64_t left, float *v)
{
    T t[GROUP];
    if (s.together && left >= GROUP) {
        load_group(x + s.at[0], t);
#pragma unroll
        for (int i = 0; i < GROUP; i++) v[i] = widen(t[i]);
    } else {
#pragma unroll
        for (int i = 0; i < GROUP; i++) v[i] = i < left ? widen(x[s.at[i]]) : 0.0f;
    }
}

static __device__ __forceinline__ void load_operand(const struct program &p, const struct operand &x,
                                                    const struct hand &h, float (&v)[ELEMENTS])
{
    if (x.kind == DENSE) {
        on_dtype(x.dtype, [&](auto t) { load_dense((const decltype(t) *)x.data, h, v); });
        return;
    }
#pragma unroll
    for (int g = 0; g < 2; g++) {
        struct spots s = find(p, x, h.at[g]);
        on_dtype(x.dtype,
                 [&](auto t) { load_spots((const decltype(t) *)x.data, s, h.count - h.at[g], v + GROUP * g); });
    }
}

/* A column: the thread's two groups, each beside its neighbours'. */
static __device__ __forceinline__ void read_column(const float4 *columns, int c, float (&v)[ELEMENTS])
{
#pragma unroll
    for (int g = 0; g < 2; g++) {
        float4 f = columns[(2 * c + g) * (int)blockDim.x + (int)threadIdx.x];
        v[GROUP * g] = f.x;
        v[GROUP * g + 1] = f.y;
        v[GROUP * g + 2] = f.z;
        v[GROUP * g + 3] = f.w;
    }
}
static __device__ __forceinline__ void write_column(float4 *columns, int c, const float (&v)[ELEMENTS])
{
#pragma unroll
    for (int g = 0; g < 2; g++)
        columns[(2 * c + g) * (int)blockDim.x + (int)threadIdx.x] = make_float4(v[GROUP * g], v[GROUP * g + 1],
                                                                                v[GROUP * g + 2], v[GROUP * g + 3]);
}

static __device__ __forceinline__ void fetch(const float4 *columns, int from, const float (&last)[ELEMENTS],
                                             float (&v)[ELEMENTS])
{
    if (from != LAST) {
        read_column(columns, from, v);
    } else {
#pragma unroll
        for (int i = 0; i < ELEMENTS; i++) v[i] = last[i];
    }
}

static __device__ __forceinline__ void run_instruction(const struct program &p, int i, const struct hand &h,
                                                       float4 *columns, float (&last)[ELEMENTS])
{
    const struct instruction &o = p.code[i];
    if (o.op == QN_OP_none) {
        load_operand(p, p.x[o.a], h, last);
    } else {
        float a[ELEMENTS], b[ELEMENTS], c[ELEMENTS];
        fetch(columns, o.a, last, a);
        if (o.n_in > 1) fetch(columns, o.b, last, b);
        if (o.n_in > 2) fetch(columns, o.c, last, c);
        run_row<ELEMENTS>(o.op, last, a, b, c, o.p, o.q);
    }
    if (o.to != NOWHERE) write_column(columns, o.to, last);
}

__global__ void __launch_bounds__(128, 8) pointwise_chain(const __grid_constant__ struct program p)
{
    CU_SHARED_DYN(float4, columns);
    float last[ELEMENTS];
    int first = 0;
    for (int64_t tile = blockIdx.x; tile < p.tiles; tile += gridDim.x) {
        struct hand h = hand_of(tile, p.count, p.pairs);
#pragma unroll 1
        for (int i = first; i < p.n_code; i++) run_instruction(p, i, h, columns, last);
        on_dtype(p.dtype, [&](auto t) { store_dense((decltype(t) *)p.y, h, last); });
        first = p.n_kept;
    }
}

/* ---- whole numbers ---------------------------------------------------------------------------------------- */

static __device__ __forceinline__ int64_t whole_at(const struct operand &x, int64_t i)
{
    switch (x.dtype) {
    case QN_I64: return ((const int64_t *)x.data)[i];
    case QN_I32: return ((const int32_t *)x.data)[i];
    case QN_I8: return ((const int8_t *)x.data)[i];
    default: return ((const uint8_t *)x.data)[i];
    }
}
static __device__ __forceinline__ void put_whole(const struct program &p, int64_t i, int64_t v)
{
    switch (p.dtype) {
    case QN_I64: ((int64_t *)p.y)[i] = v; break;
    case QN_I32: ((int32_t *)p.y)[i] = (int32_t)(v < INT32_MIN ? INT32_MIN : v > INT32_MAX ? INT32_MAX : v); break;
    case QN_I8: ((int8_t *)p.y)[i] = (int8_t)(v < INT8_MIN ? INT8_MIN : v > INT8_MAX ? INT8_MAX : v); break;
    case QN_U8: ((uint8_t *)p.y)[i] = (uint8_t)(v < 0 ? 0 : v > UINT8_MAX ? UINT8_MAX : v); break;
    default: ((uint8_t *)p.y)[i] = v != 0; break;
    }
}

/* The rows that take whole numbers; all others are refused when the graph is built. */
static __device__ __forceinline__ int64_t whole_row(int op, int64_t a, int64_t b, int64_t c)
{
    switch (op) {
    case QN_OP_lt: return a < b;
    case QN_OP_le: return a <= b;
    case QN_OP_gt: return a > b;
    case QN_OP_ge: return a >= b;
    case QN_OP_eq: return a == b;
    case QN_OP_ne: return a != b;
    case QN_OP_where: return a != 0 ? b : c;
    case QN_OP_is_finite: return 1;
    default: return a; /* cast */
    }
}

__global__ void __launch_bounds__(128) pointwise_integers(const __grid_constant__ struct program p)
{
    CU_SHARED_DYN(int64_t, columns);
    int64_t last = 0, step = (int64_t)gridDim.x * blockDim.x;
    int thread = (int)threadIdx.x, wide = (int)blockDim.x;
    for (int64_t at = (int64_t)blockIdx.x * wide + thread; at < p.count; at += step) {
#pragma unroll 1
        for (int i = 0; i < p.n_code; i++) {
            const struct instruction &o = p.code[i];
            if (o.op == QN_OP_none) {
                const struct operand &x = p.x[o.a];
                last = whole_at(x, x.kind == DENSE ? at : lookup(p, x, at));
            } else {
                int64_t a = o.a == LAST ? last : columns[o.a * wide + thread], b = a, c = a;
                if (o.n_in > 1) b = o.b == LAST ? last : columns[o.b * wide + thread];
                if (o.n_in > 2) c = o.c == LAST ? last : columns[o.c * wide + thread];
                last = whole_row(o.op, a, b, c);
            }
            if (o.to != NOWHERE) columns[o.to * wide + thread] = last;
        }
        put_whole(p, at, last);
    }
}

/* ---- the kernel --------------------------------------------------------------------------------------------- */

enum variant { CHAIN, STRIDED_CHAIN, INTEGERS, VECTOR };

/* One row whose operands all have y's float type and lie as y does, or are one number. */
static bool is_vector(const struct qn__args *a, const struct qn__walk *w)
{
    if (a->op == QN_OP_fused || a->op == QN_OP_broadcast || !keeps_dtype(a->op)) return false;
    for (int k = 0; k < a->n_in; k++)
        if (qn__walk_kind(w, k) == QN_WALK_STRIDED || a->x[k].dtype != a->y.dtype) return false;
    return true;
}

static qn_status pick(const struct qn__args *a, struct qn__choice *choice)
{
    struct qn__walk w;
    int64_t block;
    bool strided = false;
    if (!qn__walk_block(a, &block) || a->y.dtype == QN_F64) return QN_EUSAGE;
    qn__walk_of(a, block, &w);
    for (int k = 0; k < a->n_in; k++) {
        if (a->x[k].dtype == QN_F64) return QN_EUSAGE;
        if (qn__walk_kind(&w, k) != QN_WALK_STRIDED) continue;
        /* y may be given this operand's bytes, so every element must be read by the thread that writes it. */
        if (a->x[k].count == a->y.count && a->y.count > 0 && a->op != QN_OP_broadcast) return QN_EUSAGE;
        strided = true;
    }
    choice->variant = qn__cuda_is_integers(a) ? INTEGERS : is_vector(a, &w) ? VECTOR : strided ? STRIDED_CHAIN : CHAIN;
    return QN_OK;
}

static qn_status prepare(struct qn__step *s, qn_error *err)
{
    if (s->choice.variant == VECTOR) return QN_OK;
    struct program *p = (struct program *)qn__calloc(&qn__std_alloc, 1, sizeof *p);
    if (!p) return qn__nomem(err, "pointwise", sizeof *p);
    qn__cuda_program(&s->args, s->choice.variant == INTEGERS, p);
    if (s->choice.variant == INTEGERS)
        p->grid = (int32_t)grid_for(&s->args, ceil_div(p->count, p->threads), p->threads, 4);
    s->state = p;
    return QN_OK;
}

static void release(struct qn__step *s)
{
    qn__free(&qn__std_alloc, s->state, sizeof(struct program));
    s->state = NULL;
}

static qn_status launch_vector(const struct qn__step *s, qn_error *err)
{
    const struct qn__args *a = &s->args;
    const struct qn__pw_attr *attr = (const struct qn__pw_attr *)a->attr;
    struct row r = {};
    r.y = a->y.data;
    r.count = a->y.count;
    r.tiles = ceil_div(r.count, THREADS * ELEMENTS);
    r.dtype = a->y.dtype;
    r.op = a->op;
    r.n_in = a->n_in;
    r.p = (float)attr->p;
    r.q = (float)attr->q;
    for (int k = 0; k < a->n_in; k++) {
        r.x[k] = a->x[k].data;
        if (a->x[k].count != r.count) r.one |= 1 << k;
    }
    return qn__cuda_check(LAUNCH(pointwise_vector, (grid_for(a, r.tiles, THREADS, 4)), (THREADS), 0, s->queue->stream,
                                 r),
                          "pointwise_vector", s, err);
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    const struct qn__args *a = &s->args;
    if (a->y.count == 0) return QN_OK;
    if (s->choice.variant == VECTOR) return launch_vector(s, err);
    struct program p = *(const struct program *)s->state;
    unsigned grid = (unsigned)p.grid, threads = (unsigned)p.threads;
    size_t column = s->choice.variant == INTEGERS ? sizeof(int64_t) : 2 * sizeof(float4);
    size_t shared = (size_t)p.columns * threads * column;
    p.y = a->y.data;
    for (int k = 0; k < a->n_in; k++) p.x[k].data = a->x[k].data;
    if (s->choice.variant == INTEGERS)
        return qn__cuda_check(LAUNCH(pointwise_integers, (grid), (threads), shared, s->queue->stream, p),
                              "pointwise_integers", s, err);
    return qn__cuda_check(LAUNCH(pointwise_chain, (grid), (threads), shared, s->queue->stream, p), "pointwise_chain", s,
                          err);
}

static const char *const variants[] = { "chain", "chain_strided", "integers", "vector", NULL };
static const char *const copies[] = { "chain", "chain_strided", "integers", NULL };
KERNEL(fused) = { .variants = variants, .pick = pick, .prepare = prepare, .launch = launch, .release = release };
KERNEL(broadcast) = { .variants = copies, .pick = pick, .prepare = prepare, .launch = launch, .release = release };
