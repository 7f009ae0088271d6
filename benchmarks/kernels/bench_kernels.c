/* bench_kernels.c - a ladder for each operator: its rungs from naive to the kernel that programs use, each verified
 * against the f64 reference of the CPU backend before it is timed.
 *
 * Times are the device's own events around one launch, with the L2 cache flushed before it: median and 10th to 90th
 * percentile of the repetitions, after warm-up. The share of the roofline is the bound of the operator's cost function
 * (Williams, Waterman, Patterson 2009) over the median. The device's peaks are those of --gpu FILE, else what its
 * clocks, multiprocessors and bus give.
 *
 * --check verifies without timing, at sizes that the simulator can run: a case of a network's shape with fewer rows. In
 * the checked simulator (QN_CUDA_PLUGIN) it also prints what the kernels asked of memory: counted, not measured. bytes:
 * what DRAM moves over what it must move, the operands and results once each; sectors of 32 bytes that warps touch over
 * those that their bytes would fill; passes over the banks of shared memory over the least. --counts FILE writes these
 * as a table, with a line for each kernel, which tests/cuda/counts.py judges. */
#include <argp.h>
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../../core/device.h"
#include "../../core/philox.h"
#include "../../include/quern/plan.h"
#include "../../tests/cudasim/counts.h"
#include "cases.h"

enum { WARM_UP = 5, REPEATS = 30, SMALL = 7 << 19 };

struct options {
    bool check, list;
    const char *json, *counts, *gpu, *device;
    char **name;
    int n_names;
};

struct bench {
    const struct options *o;
    struct qn__gpu_device *gpu;
    const struct qn__device_api *api;
    struct qn__device *device;
    qn_gpu description; /* a peak of 0: unknown */
    FILE *json, *counts;
    int wrong, rungs;
    int (*count)(int on); /* the simulator's; NULL: none that counts */
    int (*counted)(int i, struct cudasim_counts *out, const char **kernel);
};

/* One operand of a case: the same values in the case's dtype and in double. */
struct value {
    struct qn__view view, wide;
    void *on_device;
};
struct run {
    const struct bench_case *c;
    struct value x[QN_MAX_IN], y;
};

static int die(const char *what, const qn_error *err)
{
    fprintf(stderr, "%s\n", err && err->code ? err->text : what);
    exit(err && err->code ? (int)(err->code / 1000 % 100) : 5);
}
static void *allocate(size_t n)
{
    void *p = calloc(n ? n : 1, 1);
    if (!p) die("error E5002 memory: bench_kernels: out of memory", NULL);
    return p;
}

/* ---- values ------------------------------------------------------------------------------------------------ */

static double draw(const struct bench_operand *o, uint64_t key, int64_t i)
{
    static const double hyper[] = { 1e-3, 1, 1, 3 };
    struct qn__words w = qn__philox(key, (uint32_t)i, (uint32_t)(i >> 32), 0, 0);
    double u = qn__unit_f64(w.w[0]);
    switch (o->values) {
    case BENCH_INDEX: return floor(u * (double)o->limit);
    case BENCH_HYPER: return hyper[i];
    case BENCH_POSITIVE: return u;
    case BENCH_SUMS: return 3 + 3 * u;
    case BENCH_UNIFORM: break;
    }
    return 4 * u - 2;
}

static struct qn__view view_of(const struct bench_operand *o, qn_dtype dtype)
{
    struct qn__view v = { .dtype = dtype, .rank = o->rank, .block = QN_PLAIN };
    memcpy(v.dim, o->dim, (size_t)o->rank * sizeof v.dim[0]);
    if (!qn__count(&v.count, v.dim, v.rank)) die("error E5002 memory: bench_kernels: sizes", NULL);
    v.data = allocate((size_t)v.count * qn_dtype_size(dtype));
    return v;
}

/* Where element i of a value lies if its channels come last. */
static int64_t nhwc_place(const struct qn__view *v, int64_t i)
{
    int64_t c = v->dim[1], pixels = v->dim[2] * v->dim[3];
    return (i / (c * pixels) * pixels + i % pixels) * c + i / pixels % c;
}
static bool is_turned(const struct qn__view *v) { return v->block != QN_PLAIN; }

static struct value make_value(const struct bench_case *c, const struct bench_operand *o, int index)
{
    struct value v;
    bool real = o->dtype == QN_F32;
    memset(&v, 0, sizeof v);
    v.view = view_of(o, real && !o->single ? c->dtype : o->dtype);
    v.wide = view_of(o, real ? QN_F64 : o->dtype);
    if (c->nhwc && v.view.rank == 4 && !o->plain) v.view.block = (int32_t)v.view.dim[1];
    for (int64_t i = 0; i < v.view.count; i++) {
        double x = draw(o, 20261122u + (uint64_t)index, i);
        int64_t place = is_turned(&v.view) ? nhwc_place(&v.view, i) : i;
        char *at = (char *)v.view.data + (size_t)place * qn_dtype_size(v.view.dtype);
        qn_convert(at, v.view.dtype, &x, QN_F64, 1);
        /* the reference starts from what the kernel sees: values that were rounded for storage */
        qn_convert((char *)v.wide.data + (size_t)i * qn_dtype_size(v.wide.dtype), v.wide.dtype, at, v.view.dtype, 1);
    }
    return v;
}

static struct run make_run(const struct bench_case *c)
{
    struct run r = { .c = c };
    for (int i = 0; i < c->n_in; i++) r.x[i] = make_value(c, &c->value[1 + i], i);
    r.y = make_value(c, &c->value[0], QN_MAX_IN);
    return r;
}
static void free_run(struct run *r)
{
    for (int i = 0; i <= r->c->n_in; i++) {
        struct value *v = i < r->c->n_in ? &r->x[i] : &r->y;
        free(v->view.data);
        free(v->wide.data);
    }
}

static bool is_written(const struct bench_case *c) { return qn__op_of(c->op)->writes != 0; }

static struct qn__args args_of(const struct run *r, bool wide)
{
    const struct bench_case *c = r->c;
    struct qn__args a = {
        .op = c->op, .n_in = c->n_in, .attr = c->attr, .writes = qn__op_of(c->op)->writes, .threads = 2
    };
    for (int i = 0; i < c->n_in; i++) a.x[i] = wide ? r->x[i].wide : r->x[i].view;
    a.y = wide ? r->y.wide : r->y.view;
    if (is_written(c)) a.y.data = a.x[0].data;
    return a;
}

/* ---- one step on either backend ------------------------------------------------------------------------------ */

/* Layouts as they come first, plain if the kernel does not want these. */
static qn_status choose(struct qn__step *s)
{
    s->choice = (struct qn__choice){ .y_block = s->args.y.block };
    for (int i = 0; i < s->args.n_in; i++) s->choice.x_block[i] = s->args.x[i].block;
    return s->kernel->pick ? s->kernel->pick(&s->args, &s->choice) : QN_OK;
}

static void reference(const struct run *r)
{
    struct qn__step s = { .args = args_of(r, true), .kernel = qn__cpu_f64.kernel[r->c->op] };
    qn_error err = { 0 };
    if (choose(&s)) die("error E2208 usage: bench_kernels: the reference refuses a case", NULL);
    if (s.kernel->prepare && s.kernel->prepare(&s, &err)) die("", &err);
    s.workspace = allocate(s.choice.workspace);
    if (s.kernel->bind && s.kernel->bind(&s, &err)) die("", &err);
    if (s.kernel->launch(&s, &err)) die("", &err);
    if (s.kernel->release) s.kernel->release(&s);
    free(s.workspace);
}

static void bring(struct bench *b, struct value *v)
{
    qn_error err = { 0 };
    size_t bytes = (size_t)v->view.count * qn_dtype_size(v->view.dtype);
    if (b->api->take(b->device, &v->on_device, bytes ? bytes : 1, &err)) die("", &err);
    if (b->api->put(b->device, v->on_device, v->view.data, bytes, &err)) die("", &err);
}
static void drop(struct bench *b, struct value *v)
{
    b->api->give(b->device, v->on_device, (size_t)v->view.count * qn_dtype_size(v->view.dtype));
}

/* Elements that are further from the reference than the sum of `terms` roundings and one of storage can bring them; a
 * sum's rounding is in proportion to what was summed, so the largest result sets the scale. */
static int64_t wrong_elements(struct bench *b, const struct run *r, const struct value *result)
{
    const struct qn__view *v = &result->view;
    size_t size = qn_dtype_size(v->dtype), bytes = (size_t)v->count * size;
    char *got = allocate(bytes);
    double *want = allocate((size_t)v->count * sizeof *want);
    double scale = 0, storage = v->dtype == QN_BF16 ? 0x1p-8 : v->dtype == QN_F16 ? 0x1p-11 : 0x1p-24;
    int64_t wrong = 0;
    qn_error err = { 0 };
    if (b->api->get(b->device, got, result->on_device, bytes, &err)) die("", &err);
    qn_convert(want, QN_F64, result->wide.data, result->wide.dtype, (size_t)v->count);
    for (int64_t i = 0; i < v->count; i++) scale = fmax(scale, fabs(want[i]));
    for (int64_t i = 0; i < v->count; i++) {
        double x;
        int64_t place = is_turned(v) ? nhwc_place(v, i) : i;
        qn_convert(&x, QN_F64, got + (size_t)place * size, v->dtype, 1);
        double bound = (r->c->terms + 16) * 0x1p-24 * scale + storage * (fabs(want[i]) + r->c->between);
        wrong += !(fabs(x - want[i]) <= bound);
    }
    free(got);
    free(want);
    return wrong;
}

/* ---- times ------------------------------------------------------------------------------------------------------ */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct times {
    double median, low, high; /* seconds */
};
static struct times measure(struct bench *b, const struct qn__step *s)
{
    double t[WARM_UP + REPEATS], *kept = t + WARM_UP;
    qn_error err = { 0 };
    if (b->api->time(b->device, s, WARM_UP + REPEATS, t, &err)) die("", &err);
    qsort(kept, REPEATS, sizeof kept[0], by_size);
    return (struct times){ kept[REPEATS / 2], kept[REPEATS / 10], kept[REPEATS * 9 / 10] };
}

static struct qn__node node_of(const struct qn__view *v)
{
    struct qn__node n = { .dtype = v->dtype, .rank = v->rank, .count = v->count, .block = QN_PLAIN };
    memcpy(n.dim, v->dim, sizeof n.dim);
    return n;
}
static struct qn__cost cost_of(const struct qn__args *a)
{
    struct qn__node x[QN_MAX_IN], y = node_of(&a->y);
    const struct qn__node *in[QN_MAX_IN];
    const struct qn__op *op = qn__op_of(a->op);
    for (int i = 0; i < a->n_in; i++) {
        x[i] = node_of(&a->x[i]);
        in[i] = &x[i];
    }
    y.op = a->op;
    y.n_in = a->n_in;
    y.attr = (void *)(uintptr_t)a->attr;
    return op->cost ? op->cost(in, &y) : qn__cost_each(in, &y);
}
/* Seconds that the device needs at least; 0: not known. */
static double bound_of(const struct bench *b, const struct qn__args *a, struct qn__cost cost)
{
    double peak = a->y.dtype == QN_F32 ? b->description.f32 : b->description.tensor;
    if (!(peak > 0) || !(b->description.bandwidth > 0)) return 0;
    return fmax(cost.flops / peak, cost.bytes / b->description.bandwidth);
}

/* ---- what a simulated memory was asked for ---------------------------------------------------------------------- */

static void find_counter(struct bench *b)
{
    void *cudart = dlopen("libcudart.so.13", RTLD_LAZY | RTLD_NOLOAD);
    void *on = cudart ? dlsym(cudart, "cudasim_count") : NULL, *row = cudart ? dlsym(cudart, "cudasim_counted") : NULL;
    if (!on || !row) return;
    memcpy(&b->count, &on, sizeof on);
    memcpy(&b->counted, &row, sizeof row);
    if (!b->count(0)) b->count = NULL; /* the quick build does not count */
}

struct asked {
    double moved, sectors, ideal_sectors, fronts, ideal_fronts;
};
static struct asked asked_by(const struct cudasim_counts *c)
{
    return (struct asked){
        .moved = 32 * (double)c->load.missed + (double)(c->store.bytes + c->atomic.bytes),
        .sectors = (double)(c->load.sectors + c->store.sectors),
        .ideal_sectors = (double)(c->load.ideal_sectors + c->store.ideal_sectors),
        .fronts = (double)(c->shared_load.wavefronts + c->shared_store.wavefronts),
        .ideal_fronts = (double)(c->shared_load.ideal_wavefronts + c->shared_store.ideal_wavefronts),
    };
}
static double share(double a, double b) { return b > 0 ? a / b : 1; }

/* Bytes that the operator cannot do without: what it writes in place is read as well as written. */
static double compulsory(const struct run *r, const struct qn__cost *cost)
{
    const struct qn__op *op = qn__op_of(r->c->op);
    double bytes = 0;
    if (!op->writes) return cost->bytes;
    for (int i = 0; i < r->c->n_in; i++) {
        double n = (double)r->x[i].view.count * (double)qn_dtype_size(r->x[i].view.dtype);
        bytes += (op->writes >> i & 1) && r->c->op != QN_OP_assign ? 2 * n : n;
    }
    return bytes;
}

static void write_counts(struct bench *b, const struct bench_case *c, const char *rung, const char *variant,
                         const char *kernel, double needed, struct asked a)
{
    if (b->counts)
        fprintf(b->counts, "%s\t%s\t%s\t%d\t%s\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\n", c->name, rung, variant,
                c->many > 0, kernel, needed, a.moved, a.sectors, a.ideal_sectors, a.fronts, a.ideal_fronts);
}

static void tell_counts(struct bench *b, const struct bench_case *shape, const char *rung, const char *variant,
                        double needed)
{
    struct cudasim_counts c;
    struct asked sum = { 0 };
    const char *kernel;
    for (int i = 0; b->counted(i, &c, &kernel); i++) {
        struct asked a = asked_by(&c);
        write_counts(b, shape, rung, variant, kernel, (double)(c.footprint_read + c.footprint_written), a);
        sum.moved += a.moved;
        sum.sectors += a.sectors;
        sum.ideal_sectors += a.ideal_sectors;
        sum.fronts += a.fronts;
        sum.ideal_fronts += a.ideal_fronts;
    }
    write_counts(b, shape, rung, variant, "*", needed, sum);
    printf("  simulated: bytes %.3f sectors %.3f wavefronts %.3f", share(sum.moved, needed),
           share(sum.sectors, sum.ideal_sectors), share(sum.fronts, sum.ideal_fronts));
}

/* ---- ladders ----------------------------------------------------------------------------------------------------- */

static void tell(struct bench *b, const struct run *r, const char *rung, const char *variant, int64_t wrong,
                 const struct qn__step *s)
{
    const struct bench_case *c = r->c;
    printf("%-34s %-10s %-20s wrong %lld", c->name, rung, variant, (long long)wrong);
    if (b->json)
        fprintf(b->json, "%s\n  {\"case\":\"%s\",\"rung\":\"%s\",\"variant\":\"%s\",\"wrong\":%lld",
                b->rungs ? "," : "", c->name, rung, variant, (long long)wrong);
    struct qn__cost cost = cost_of(&s->args);
    if (b->count) tell_counts(b, c, rung, variant, compulsory(r, &cost));
    if (!b->o->check && !wrong) {
        struct times t = measure(b, s);
        printf("  %10.2f us (%.2f to %.2f)  %8.1f GB/s %10.1f GFLOP/s", t.median * 1e6, t.low * 1e6, t.high * 1e6,
               cost.bytes / t.median * 1e-9, cost.flops / t.median * 1e-9);
        double bound = bound_of(b, &s->args, cost);
        if (bound > 0) printf("  %5.1f %%", 100 * bound / t.median);
        if (b->json)
            fprintf(b->json, ",\"seconds\":%.9g,\"low\":%.9g,\"high\":%.9g,\"bytes\":%.0f,\"flops\":%.0f", t.median,
                    t.low, t.high, cost.bytes, cost.flops);
        if (b->json && bound > 0) fprintf(b->json, ",\"share\":%.4f", bound / t.median);
    }
    if (b->json) fputs("}", b->json);
    putchar('\n');
    b->rungs++;
    b->wrong += wrong != 0;
}

static void drop_all(struct bench *b, struct run *r)
{
    for (int i = 0; i < r->c->n_in; i++) drop(b, &r->x[i]);
    drop(b, &r->y);
}

static void climb(struct bench *b, struct run *r, const char *rung, const struct qn__kernel *kernel)
{
    struct qn__step s = { .args = args_of(r, false), .kernel = kernel };
    qn_error err = { 0 };
    s.args.gpu = b->api->describe(b->device);
    s.queue = b->api->queue(b->device, 0);
    if (!kernel || choose(&s)) {
        printf("%-34s %-10s does not take this dtype or shape\n", r->c->name, rung);
        return;
    }
    for (int i = 0; i < r->c->n_in; i++) {
        bring(b, &r->x[i]);
        s.args.x[i].data = r->x[i].on_device;
    }
    bring(b, &r->y);
    struct value *result = is_written(r->c) ? &r->x[0] : &r->y;
    s.args.y.data = result->on_device;
    if (choose(&s)) die("error E2208 usage: bench_kernels: a kernel refuses a case's operands", NULL);
    qn_status status = kernel->prepare ? kernel->prepare(&s, &err) : QN_OK;
    if (status == QN_EUSAGE) {
        printf("%-34s %-10s %s\n", r->c->name, rung, err.text);
        drop_all(b, r);
        return;
    }
    if (status) die("", &err);
    size_t workspace = s.choice.workspace ? s.choice.workspace : 1;
    if (b->api->take(b->device, &s.workspace, workspace, &err)) die("", &err);
    if (b->count) b->count(1);
    if (kernel->launch(&s, &err) || b->api->wait(b->device, NULL, &err)) die("", &err);
    if (b->count) b->count(0);
    tell(b, r, rung, kernel->variants[s.choice.variant], wrong_elements(b, r, result), &s);
    b->api->give(b->device, s.workspace, workspace);
    if (kernel->release) kernel->release(&s);
    drop_all(b, r);
}

static bool is_asked_for(const struct options *o, const struct bench_case *c)
{
    int64_t elements = 1;
    for (int i = 0; i <= c->n_in; i++) {
        int64_t n = 1;
        for (int k = 0; k < c->value[i].rank; k++) n *= c->value[i].dim[k];
        if (n > elements) elements = n;
    }
    if (o->check && elements > SMALL) return false;
    for (int i = 0; i < o->n_names; i++)
        if (strstr(c->name, o->name[i])) return true;
    return o->n_names == 0;
}

/* The case with few rows, for --check. */
static struct bench_case shortened(const struct bench_case *whole)
{
    struct bench_case c = *whole;
    for (int i = 0; i <= c.n_in && c.many; i++)
        for (int k = 0; k < c.value[i].rank; k++)
            if (c.value[i].dim[k] == c.many) c.value[i].dim[k] = c.few;
    if (c.few_attr) c.attr = c.few_attr;
    return c;
}

static void ladder(struct bench *b, const struct bench_case *c)
{
    struct run r = make_run(c);
    reference(&r);
    for (const struct qn__rung *g = b->gpu->backend->rungs; g && g->op; g++)
        if (g->op == c->op) climb(b, &r, g->name, g->kernel);
    climb(b, &r, "quern", b->gpu->backend->kernel[c->op]);
    free_run(&r);
}

static void run_case(struct bench *b, const struct bench_case *whole)
{
    struct bench_case c = b->o->check ? shortened(whole) : *whole;
    if (is_asked_for(b->o, &c)) ladder(b, &c);
}

/* The check of a loaded tensor, which is no operator. */
static void count_finite(struct bench *b)
{
    static const struct bench_case shape = { .name = "all finite 524288", .many = 1, .few = 1 };
    enum { N = 524288 };
    struct qn__view v = { .dtype = QN_F32, .rank = 1, .dim = { N }, .count = N, .block = QN_PLAIN };
    float *zeros = allocate(N * sizeof *zeros);
    bool good = false;
    qn_error err = { 0 };
    if (b->api->take(b->device, &v.data, N * sizeof *zeros, &err)) die("", &err);
    if (b->api->put(b->device, v.data, zeros, N * sizeof *zeros, &err)) die("", &err);
    b->count(1);
    if (b->api->finite(b->device, &v, &good, &err)) die("", &err);
    b->count(0);
    printf("%-34s %-10s %-20s wrong %d", shape.name, "quern", "vector", !good);
    tell_counts(b, &shape, "quern", "vector", N * sizeof *zeros);
    putchar('\n');
    b->rungs++;
    b->wrong += !good;
    b->api->give(b->device, v.data, N * sizeof *zeros);
    free(zeros);
}

/* ---- device ------------------------------------------------------------------------------------------------------ */

/* Peaks by clocks: two transfers a cycle of the memory; multiply-adds of f32 and of bf16 with sums in f32 a cycle and
 * multiprocessor, from the CUDA C++ Programming Guide (throughput of instructions) and NVIDIA's white papers of each
 * capability. Boards for games do half as many of the latter at 8.6, 8.9 and 12.0. */
static void describe_by_clocks(qn_gpu *out, int index, const struct qn__gpu *gpu)
{
    static const struct {
        int32_t capability;
        double f32, tensor;
    } rows[] = { { 80, 64, 1024 },   { 86, 128, 512 },   { 87, 128, 512 },  { 89, 128, 512 }, { 90, 128, 2048 },
                 { 100, 128, 4096 }, { 103, 128, 4096 }, { 120, 128, 512 }, { 121, 128, 512 } };
    enum { CLOCK_RATE = 13, MEMORY_CLOCK_RATE = 36, GLOBAL_MEMORY_BUS_WIDTH = 37 }; /* of cudaDeviceAttr */
    int (*ask)(int *value, int attribute, int device) = NULL;
    int core = 0, memory = 0, bits = 0;
    void *cudart = dlopen("libcudart.so.13", RTLD_LAZY | RTLD_NOLOAD);
    void *symbol = cudart ? dlsym(cudart, "cudaDeviceGetAttribute") : NULL;
    memcpy(&ask, &symbol, sizeof ask);
    if (!ask || ask(&core, CLOCK_RATE, index) || ask(&memory, MEMORY_CLOCK_RATE, index) ||
        ask(&bits, GLOBAL_MEMORY_BUS_WIDTH, index))
        return;
    double cycles = 2e3 * (double)core * (double)gpu->multiprocessors; /* kHz; a multiply-add is two operations */
    out->bandwidth = 2e3 * (double)memory * (double)bits / 8;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].capability == gpu->capability)
            out->f32 = rows[i].f32 * cycles, out->tensor = rows[i].tensor * cycles;
}

/* What the figures are of. */
static void tell_device(struct bench *b)
{
    struct qn__identity id;
    qn_error err = { 0 };
    if (b->api->identity(b->device, &id, &err)) die("", &err);
    printf("%s: driver for CUDA %lld.%lld, CUDA %lld.%lld, cuBLASLt %lld, cuDNN %lld\n", id.gpu,
           (long long)id.driver / 1000, (long long)id.driver % 1000 / 10, (long long)id.cuda / 1000,
           (long long)id.cuda % 1000 / 10, (long long)id.blas, (long long)id.dnn);
    const qn_gpu *d = &b->description;
    if (!b->o->check && d->bandwidth > 0)
        printf("roofline %s: %.0f GB/s, %.1f TFLOP/s in f32, %.1f on tensor cores\n",
               b->o->gpu ? "of the description" : "by the device's clocks", d->bandwidth * 1e-9, d->f32 * 1e-12,
               d->tensor * 1e-12);
    if (!b->json) return;
    fprintf(b->json, "{\"device\":\"");
    for (const char *c = id.gpu; *c; c++) fprintf(b->json, *c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
    fprintf(b->json, "\",\"driver\":%lld,\"cuda\":%lld,\"cublaslt\":%lld,\"cudnn\":%lld,\"rungs\":[",
            (long long)id.driver, (long long)id.cuda, (long long)id.blas, (long long)id.dnn);
}

static void open_device(struct bench *b)
{
    qn_error err = { 0 };
    const char *colon;
    if (qn__device_open(&b->gpu, b->o->device, NULL, &err)) die("", &err);
    if (!b->gpu) die("error E7001 device: bench_kernels: no GPU; expected one", NULL);
    b->api = b->gpu->api;
    b->device = b->gpu->device;
    colon = strchr(b->gpu->name, ':');
    if (!b->o->gpu)
        describe_by_clocks(&b->description, colon ? (int)strtol(colon + 1, NULL, 10) : 0, b->api->describe(b->device));
    else if (qn_gpu_read(&b->description, b->o->gpu, &err))
        die("", &err);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case 'c': o->check = true; break;
    case 'l': o->list = true; break;
    case 'j': o->json = arg; break;
    case 'n': o->counts = arg; break;
    case 'g': o->gpu = arg; break;
    case 'd': o->device = arg; break;
    case ARGP_KEY_ARGS:
        o->name = state->argv + state->next;
        o->n_names = state->argc - state->next;
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const struct argp_option rows[] = {
        { "check", 'c', NULL, 0, "Verify the rungs at small sizes, time nothing", 0 },
        { "list", 'l', NULL, 0, "Print the names of the cases", 0 },
        { "json", 'j', "FILE", 0, "Write the results to FILE too", 0 },
        { "counts", 'n', "FILE", 0, "With --check in the checked simulator: write what was asked of memory to FILE",
          0 },
        { "gpu", 'g', "FILE", 0, "Description of this GPU (gpus/*.json), for shares of the roofline", 0 },
        { "device", 'd', "NAME", 0, "cuda or cuda:1", 0 },
        { 0 },
    };
    struct options o = { .device = "cuda" };
    struct bench b = { .o = &o };
    argp_parse(&(struct argp){ rows, parse, "[NAME...]",
                               "Ladders of kernels: each rung verified, then timed. NAME selects by substring.", NULL,
                               NULL, NULL },
               argc, argv, 0, NULL, &o);
    for (int i = 0; i < bench_n_cases && o.list; i++) puts(bench_cases[i].name);
    if (o.list) return 0;
    open_device(&b);
    if (o.json && !(b.json = fopen(o.json, "w")))
        die("error E6001 file: bench_kernels: cannot write --json FILE", NULL);
    tell_device(&b);
    if (o.check) find_counter(&b);
    if (o.counts && (!b.count || !(b.counts = fopen(o.counts, "w"))))
        die("error E6001 file: bench_kernels: cannot write --counts FILE, or this is not --check in the checked "
            "simulator",
            NULL);
    if (b.counts)
        fputs("case\trung\tvariant\tjudged\tkernel\tneeded\tmoved\tsectors\tideal_sectors\twavefronts\tideal_"
              "wavefronts\n",
              b.counts);
    for (int i = 0; i < bench_n_cases; i++) run_case(&b, &bench_cases[i]);
    if (b.count && o.n_names == 0) count_finite(&b);
    if (b.json) fputs("\n]}\n", b.json);
    if (b.json && fclose(b.json)) die("error E6002 file: bench_kernels: --json FILE", NULL);
    if (b.counts && fclose(b.counts)) die("error E6002 file: bench_kernels: --counts FILE", NULL);
    printf("%d rungs, %d with wrong elements\n", b.rungs, b.wrong);
    qn__device_close(b.gpu);
    return b.wrong ? 1 : 0;
}
