/* conv.c - time of the matmul, convolution and pooling kernels on the shapes of small image networks, one line each:
 * what pick chooses when it may choose the layouts, and what plain layouts cost. Usage: conv [threads] */
#include "../../core/op.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct shape {
    enum qn__opcode op;
    const void *attr;
    int n_in;
    int rank;
    int64_t x[3][4];
};

static struct qn__view view_of(const struct qn__node *n)
{
    struct qn__view v = { .dtype = n->dtype, .rank = n->rank, .block = QN_PLAIN, .count = n->count };
    memcpy(v.dim, n->dim, sizeof v.dim);
    return v;
}

static void *memory(size_t bytes)
{
    float *p = aligned_alloc(256, (bytes + 511) / 256 * 256);
    if (!p) exit(5);
    for (size_t i = 0; i < bytes / 4; i++) p[i] = (float)(i * 2654435761u % 1024) / 1024 - 0.5f;
    return p;
}

static double best_of(const struct qn__step *s)
{
    double best = 1e9, spent = 0;
    for (int i = 0; i < 1000 && (i < 5 || spent < 0.2); i++) {
        double start = qn__now();
        if (s->kernel->launch(s, NULL)) exit(70);
        double t = qn__now() - start;
        spent += t;
        if (t < best) best = t;
    }
    return best;
}

static void show(const struct shape *shape, const struct qn__step *s, double flops)
{
    double t = best_of(s);
    printf("%-16s", qn__op_of(shape->op)->name);
    for (int i = 0; i < shape->n_in; i++) {
        printf(" ");
        for (int k = 0; k < shape->rank; k++) printf("%s%lld", k ? "x" : "", (long long)shape->x[i][k]);
        if (s->args.x[i].block != QN_PLAIN) printf("/%d", s->args.x[i].block);
    }
    printf("  %s  %.3f ms  %.1f Gflop/s  workspace %zu KiB\n", s->kernel->variants[s->choice.variant], t * 1e3,
           flops / t * 1e-9, s->choice.workspace >> 10);
}

static void bench(const struct shape *shape, int threads, bool ask)
{
    struct qn__node node[3] = { { 0 } },
                    y = { .op = shape->op, .n_in = shape->n_in, .attr = (void *)(uintptr_t)shape->attr };
    const struct qn__node *x[3] = { &node[0], &node[1], &node[2] };
    struct qn__step s = { .kernel = qn__cpu_f32.kernel[shape->op] };
    qn_error err = { 0 };
    s.args = (struct qn__args){ .op = shape->op, .n_in = shape->n_in, .attr = shape->attr, .threads = threads };
    for (int i = 0; i < shape->n_in; i++) {
        node[i] = (struct qn__node){ .dtype = QN_F32, .rank = shape->rank };
        memcpy(node[i].dim, shape->x[i], sizeof shape->x[i]);
        if (!qn__count(&node[i].count, node[i].dim, node[i].rank)) exit(2);
        s.args.x[i] = view_of(&node[i]);
    }
    if (qn__op_of(shape->op)->infer(x, &y, &err) || !qn__count(&y.count, y.dim, y.rank)) exit(2);
    s.args.y = view_of(&y);
    if (ask) {
        bool pool = shape->op >= QN_OP_max_pool2d && shape->op <= QN_OP_avg_pool2d_grad;
        s.args.y.block = QN_ANY_BLOCK;
        for (int i = 0; pool && i < shape->n_in; i++) s.args.x[i].block = 8; /* as they come from a convolution */
        if (s.kernel->pick(&s.args, &s.choice)) exit(2);
        for (int i = 0; i < shape->n_in; i++) s.args.x[i].block = s.choice.x_block[i];
        s.args.y.block = s.choice.y_block;
    }
    s.choice = (struct qn__choice){ 0 };
    if (s.kernel->pick(&s.args, &s.choice) || (s.kernel->prepare && s.kernel->prepare(&s, &err))) exit(70);
    for (int i = 0; i < shape->n_in; i++) s.args.x[i].data = memory((size_t)node[i].count * 4);
    s.args.y.data = memory((size_t)y.count * 4);
    s.workspace = memory(s.choice.workspace);
    if (s.kernel->bind && s.kernel->bind(&s, &err)) exit(70);
    show(shape, &s, qn__op_of(shape->op)->cost(x, &y).flops);
    if (s.kernel->release) s.kernel->release(&s);
    for (int i = 0; i < shape->n_in; i++) free(s.args.x[i].data);
    free(s.args.y.data);
    free(s.workspace);
}

static void convolutions(int threads)
{
    static const int64_t row[][4] = { { 1, 28, 32, 0 },  { 32, 13, 64, 0 }, { 64, 5, 64, 0 },
                                      { 1, 28, 32, 1 },  { 3, 32, 32, 1 },  { 32, 28, 32, 1 },
                                      { 32, 14, 64, 1 }, { 64, 14, 64, 1 }, { 64, 7, 128, 1 } };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        int64_t c = row[i][0], h = row[i][1], o = row[i][2], out = h + 2 * row[i][3] - 2;
        int32_t pad = (int32_t)row[i][3];
        struct qn__conv_attr a = { { 1, 1 }, { 1, 1 }, { pad, pad }, { pad, pad }, 1, 0, { 0, 0 }, 0, { 0, 0, 0 } };
        struct qn__conv_attr gx = a, gw = a;
        gx.size[0] = gx.size[1] = h, gx.channels = gw.channels = c, gw.size[0] = gw.size[1] = 3;
        struct shape s[] = { { QN_OP_conv2d, &a, 2, 4, { { 128, c, h, h }, { o, c, 3, 3 } } },
                             { QN_OP_conv2d_grad_x, &gx, 2, 4, { { o, c, 3, 3 }, { 128, o, out, out } } },
                             { QN_OP_conv2d_grad_w, &gw, 2, 4, { { 128, c, h, h }, { 128, o, out, out } } } };
        for (int k = 0; k < 3; k++) {
            if (c < 8 && k == 1) continue;
            bench(&s[k], threads, true);
            if (k == 0) bench(&s[k], threads, false);
        }
    }
}

static void pools(int threads)
{
    struct qn__pool_attr two = { { 2, 2 }, { 2, 2 }, { 0, 0 }, { 26, 26 } },
                         all = { { 7, 7 }, { 7, 7 }, { 0, 0 }, { 7, 7 } };
    struct shape s[] = {
        { QN_OP_max_pool2d, &two, 1, 4, { { 128, 32, 26, 26 } } },
        { QN_OP_avg_pool2d, &two, 1, 4, { { 128, 32, 26, 26 } } },
        { QN_OP_avg_pool2d_grad, &two, 1, 4, { { 128, 32, 13, 13 } } },
        { QN_OP_max_pool2d_grad, &two, 3, 4, { { 128, 32, 26, 26 }, { 128, 32, 13, 13 }, { 128, 32, 13, 13 } } },
        { QN_OP_avg_pool2d, &all, 1, 4, { { 128, 128, 7, 7 } } }
    };
    for (size_t i = 0; i < sizeof s / sizeof s[0]; i++) bench(&s[i], threads, true);
}

static void products(int threads)
{
    static const int64_t row[][5] = { { 0, 0, 128, 512, 784 }, { 1, 0, 784, 512, 128 }, { 0, 1, 128, 784, 512 },
                                      { 0, 0, 128, 10, 512 },  { 1, 0, 512, 10, 128 },  { 0, 1, 128, 512, 10 },
                                      { 0, 0, 128, 128, 784 }, { 1, 0, 784, 128, 128 }, { 0, 0, 128, 64, 576 },
                                      { 1, 0, 576, 64, 128 },  { 0, 1, 128, 576, 64 },  { 0, 0, 512, 512, 512 } };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct qn__matmul_attr a = { (int32_t)row[i][0], (int32_t)row[i][1], { 0, 0, 0 } };
        int64_t m = row[i][2], n = row[i][3], k = row[i][4];
        struct shape s = { QN_OP_matmul, &a, 2, 2, { { a.ta ? k : m, a.ta ? m : k }, { a.tb ? n : k, a.tb ? k : n } } };
        bench(&s, threads, false);
    }
}

int main(int argc, char **argv)
{
    int64_t threads = 2;
    if (argc > 1 && (!qn__parse_i64(argv[1], &threads) || threads < 1 || threads > 256)) {
        fprintf(stderr, "usage: conv [threads]\n");
        return 2;
    }
    products((int)threads);
    convolutions((int)threads);
    pools((int)threads);
    return 0;
}
