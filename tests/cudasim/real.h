/* real.h - questions that the real libraries answer without a device, put to them and to the simulated ones. Each room
 * of questions is a function that is given the library and says line after line what was answered. */
#ifndef QN_TESTS_CUDASIM_REAL_H
#define QN_TESTS_CUDASIM_REAL_H
#if __has_include(<cuda_runtime_api.h>) && __has_include(<cublasLt.h>) && __has_include(<cudnn.h>) && \
    __has_include(<nccl.h>)
#define REAL_LIBRARIES 1
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void real_answers_to(FILE *f);
void real_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void real_blas(void *library);
void real_dnn(void *library);
void real_nccl(void *library);

/* table.name is the library's function of that name; a line says so if there is none. */
#define REAL_FIND(table, library, name) \
    do { \
        void *symbol_ = dlsym(library, #name); \
        if (!symbol_) { \
            real_say("has no %s", #name); \
            return; \
        } \
        memcpy(&table.name, &symbol_, sizeof symbol_); \
    } while (0)
#else
#define REAL_LIBRARIES 0
#endif
#endif
