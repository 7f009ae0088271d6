/* drive.h - runs one kernel of a backend on memory of the test's own, without a graph or a program around it. */
#ifndef QN_TESTS_LIB_DRIVE_H
#define QN_TESTS_LIB_DRIVE_H
#include "../../core/backend.h"

/* Where a kernel runs: a backend, and the opened device on whose memory it works; NULL: the CPU. */
struct drive_on {
    const struct qn__backend *backend;
    struct qn__device *device;
    bool guards; /* of a device: put guards around its memory too, which hide from a checking device */
};
extern const struct drive_on drive_cpu_f32, drive_cpu_f64;

/* ---- memory ---- */

/* Bytes between guards, at a multiple of 256 as core's are: what a kernel writes outside of them is found. */
struct drive_memory {
    unsigned char *base; /* to free; NULL: the bytes are another's */
    unsigned char *data;
    size_t bytes;
};
struct drive_memory drive_take(size_t bytes, unsigned char fill);
bool drive_intact(const struct drive_memory *m);

/* ---- physical order ---- */

struct qn__view drive_view(qn_dtype dtype, int rank, const int64_t *dims, int block, void *data);
/* Where element `logical` (row-major order) of a value lies; only rank-4 values have a block other than QN_PLAIN. */
int64_t drive_place(const struct qn__view *v, int64_t logical);
/* Copies a value into another view of its dims and dtype, from one order into the other. */
void drive_reorder(const struct qn__view *to, const struct qn__view *from);

/* ---- a call ---- */

/* A step of the operator's kernel, with the target's queue and description; choice and workspace open. */
struct qn__step drive_step(const struct drive_on *on, const struct qn__args *args);
/* pick, with the blocks in s->args as they come: fills s->choice, or QN_EUSAGE. */
qn_status drive_pick(struct qn__step *s);
/* prepare, bind, `launches` launches and release of the kernel that was picked. Views hold addresses of the test. Where
 * the target is a device, the memory (of `owner`, n of them) that a view points into is brought there and back, and the
 * workspace is as the device gives it; without guards there a checking device sees every access beyond.
 * Fails the test if the kernel writes into a guard. */
qn_status drive_launch(const struct drive_on *on, struct qn__step *s, const struct drive_memory *owner, int n,
                       int launches, unsigned char fill, qn_error *err);

/* All of that on the CPU. y->data may be an operand's data where the operator works in place. Returns QN_EUSAGE if the
 * kernel refuses these shapes or layouts. */
qn_status drive(const struct drive_on *cpu, enum qn__opcode op, const void *attr, const struct qn__view *x, int n_in,
                const struct qn__view *y, int threads, qn_error *err);
#endif
