/* move.h - copies that change no value: boxes with strides, and matrices turned over. By element size, so that one
 * kernel serves every dtype. */
#ifndef QN_KERNELS_CPU_MOVE_H
#define QN_KERNELS_CPU_MOVE_H
#include "cpu.h"

/* dim[0..rank) outermost first; strides in bytes. */
struct qn__box {
    int rank;
    int64_t dim[QN_MAX_DIMS], to[QN_MAX_DIMS], from[QN_MAX_DIMS];
};

/* The same box without dimensions of 1, and neighbours merged that are contiguous on both sides. */
struct qn__box QN_CAT(qn__merge_box, KIND)(const struct qn__box *box);

/* to[i] = from[i] for every index of the box; elements of `size` bytes (1, 2, 4 or 8). No overlap. */
void QN_CAT(qn__copy_box, KIND)(void *to, const void *from, const struct qn__box *box, size_t size, int threads);

/* to[j * to_row + i] = from[i * from_row + j] for i < rows, j < columns; rows in elements of `size` bytes. */
void QN_CAT(qn__turn, KIND)(void *to, int64_t to_row, const void *from, int64_t from_row, int64_t rows, int64_t columns,
                            size_t size);

/* n bytes, in parallel if there are many */
void QN_CAT(qn__copy_bytes, KIND)(void *to, const void *from, int64_t n, int threads);

#endif
