/* conv2d_grad_x.c - dx of conv2d from w and dy, and the forward of the transposed convolution, through cuDNN; see
 * conv.h. */
#include "conv.h"

CONV_KERNEL(conv2d_grad_x, qn__cuda_conv_variants, .direction = QN_DNN_GRAD_X, .x = QN_CONV_RESULT, .w = 0, .y = 1);
