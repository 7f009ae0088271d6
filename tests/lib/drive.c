/* drive.c - see drive.h. */
#include "drive.h"
#include <stdlib.h>
#include <string.h>

struct qn__view drive_view(qn_dtype dtype, int rank, const int64_t *dims, int block, void *data)
{
    struct qn__view v = { .data = data, .dtype = dtype, .rank = rank, .block = block, .count = 1 };
    for (int i = 0; i < rank; i++) {
        v.dim[i] = dims[i];
        v.count *= dims[i];
    }
    return v;
}

static qn_status run(const struct qn__kernel *kernel, struct qn__step *s, qn_error *err)
{
    void *workspace = NULL;
    qn_status status = kernel->prepare ? kernel->prepare(s, err) : QN_OK;
    if (!status && s->choice.workspace) {
        workspace = aligned_alloc(256, (s->choice.workspace + 255) & ~(size_t)255);
        if (!workspace) status = qn__nomem(err, "workspace", s->choice.workspace);
    }
    s->workspace = workspace;
    if (!status && kernel->bind) status = kernel->bind(s, err);
    if (!status) status = kernel->launch(s, err);
    if (kernel->release) kernel->release(s);
    free(workspace);
    return status;
}

qn_status drive(const struct qn__backend *backend, enum qn__opcode op, const void *attr, const struct qn__view *x,
                int n_in, const struct qn__view *y, int threads, const char **variant, qn_error *err)
{
    const struct qn__kernel *kernel = backend->kernel[op];
    struct qn__step s = { .args = { .op = op, .n_in = n_in, .y = *y, .attr = attr, .threads = threads },
                          .choice = { .y_block = QN_PLAIN },
                          .kernel = kernel };
    for (int i = 0; i < QN_MAX_IN; i++) s.choice.x_block[i] = QN_PLAIN;
    for (int i = 0; i < n_in; i++) s.args.x[i] = x[i];
    if (kernel->pick) QN_TRY(kernel->pick(&s.args, &s.choice));
    if (variant) *variant = kernel->variants ? kernel->variants[s.choice.variant] : "";
    return run(kernel, &s, err);
}

static void move(void *to, const void *from, const int64_t dim[4], int b, size_t size, int back)
{
    int64_t s = dim[2] * dim[3];
    for (int64_t n = 0; n < dim[0]; n++)
        for (int64_t c = 0; c < dim[1]; c++)
            for (int64_t i = 0; i < s; i++) {
                size_t plain = (size_t)((n * dim[1] + c) * s + i);
                size_t blocked = (size_t)(((n * (dim[1] / b) + c / b) * s + i) * b + c % b);
                size_t at = (back ? plain : blocked) * size, source = (back ? blocked : plain) * size;
                memcpy((char *)to + at, (const char *)from + source, size);
            }
}
void drive_to_block(void *dst, const void *src, const int64_t dim[4], int b, size_t size)
{
    move(dst, src, dim, b, size, 0);
}
void drive_to_plain(void *dst, const void *src, const int64_t dim[4], int b, size_t size)
{
    move(dst, src, dim, b, size, 1);
}
