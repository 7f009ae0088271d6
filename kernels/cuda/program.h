/* program.h - pointwise programs as the kernels of fused.cu run them: which operand lies where, in which order
 * things are
 * loaded and computed, which values wait in which column of shared memory. Made on the host when a program is compiled.
 *
 * A thread has eight elements at a time, as two groups of four. The value computed last is in its registers; a value
 * that
 * is needed later than by the next instruction waits in a column, 16 bytes per group and thread, which is free again
 * after its last use. So there are no more columns than values that wait at the same time, and a chain needs none. */
#ifndef QN_KERNELS_CUDA_PROGRAM_H
#define QN_KERNELS_CUDA_PROGRAM_H
#include "../walk.h"
#include "index.h"

enum { LAST = -1, NOWHERE = -1, ELEMENTS = 8, GROUP = 4, MAX_COLUMNS = QN_MAX_IN + QN_FUSED_MAX };

/* op QN_OP_none loads operand a. a, b, c: columns, or LAST; to: a column, or NOWHERE. */
struct instruction {
    int16_t op;
    int8_t a, b, c, to;
    int16_t n_in;
    float p, q;
};

/* An operand. DENSE: in y's order. KEPT: the same in all of a thread's rounds, loaded once. STRIDED: looked up. */
enum operand_kind { DENSE, KEPT, STRIDED };
struct operand {
    const void *data;
    int32_t dtype, kind;
    int64_t step[QN_WALK_MAX]; /* along the program's dimensions */
};

struct program {
    void *y;
    int64_t count, tiles;
    int32_t dtype; /* of y */
    int32_t n_dims, narrow;
    int32_t n_kept, n_code; /* the first n_kept instructions run once */
    int32_t pairs;          /* the two groups lie side by side: 16-bit elements in 16-byte access */
    int32_t threads, grid, columns;
    struct divisor size[QN_WALK_MAX];
    struct operand x[QN_MAX_IN];
    struct instruction code[QN_MAX_IN + QN_FUSED_MAX];
};

/* Fills everything but the addresses. The layouts must have passed qn__walk_block. integers: 64-bit whole numbers. */
void qn__cuda_program(const struct qn__args *a, bool integers, struct program *p);
/* Work on whole numbers of 32 or 64 bits without any float: floats of 32 bits would not hold them. */
bool qn__cuda_is_integers(const struct qn__args *a);
#endif
