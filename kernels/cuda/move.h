/* move.h - copies that change no value, by element size: boxes with strides, and matrices turned over. */
#ifndef QN_KERNELS_CUDA_MOVE_H
#define QN_KERNELS_CUDA_MOVE_H
#include "index.h"

/* What a dense result is copied from: dim[0..rank) outermost first, steps and start in elements of `size` bytes. */
struct copy_from {
    int rank;
    int64_t dim[QN_MAX_DIMS], step[QN_MAX_DIMS], start, size;
};

/* The same without dimensions of 1, and neighbours merged that are contiguous in the operand too. */
struct copy_from qn__cuda_merged(const struct copy_from *c);
/* to[i] = from[start + i . step]. No overlap. */
qn_status qn__cuda_copy(const struct qn__step *s, void *to, const void *from, const struct copy_from *c, qn_error *err);

/* Matrices turned over: to[.. + j to_row + i] = from[.. + i from_row + j] for i < rows, j < columns; outer: the other
 * dimensions, with their steps on both sides. All in elements of `size` bytes. */
struct turn {
    int64_t rows, columns, to_row, from_row, size;
    int n_outer;
    int64_t outer[QN_MAX_DIMS], to_step[QN_MAX_DIMS], from_step[QN_MAX_DIMS];
};
enum qn__turn_variant { QN_TURN_TILED, QN_TURN_THIN, QN_TURN_NONE /* both extents small: copy instead */ };
enum qn__turn_variant qn__cuda_turn_variant(const struct turn *t);
qn_status qn__cuda_turn(const struct qn__step *s, void *to, const void *from, const struct turn *t, qn_error *err);
#endif
