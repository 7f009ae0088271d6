/* conv2d_grad_w.c - dw of conv2d from x and dy through cuDNN; see conv.h. */
#include "conv.h"

CONV_KERNEL(conv2d_grad_w, qn__cuda_conv_plain_variants, .direction = QN_DNN_GRAD_W, .x = 0, .w = QN_CONV_RESULT,
            .y = 1);
