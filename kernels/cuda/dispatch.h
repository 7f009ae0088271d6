/* dispatch.h - numbers as types, for what is chosen on the host and is an argument of a kernel's template: a generic
 * lambda that gets number<4>() has 4 as decltype(n)::value. */
#ifndef QN_KERNELS_CUDA_DISPATCH_H
#define QN_KERNELS_CUDA_DISPATCH_H

template <int N> struct number {
    static constexpr int value = N;
};
#endif
