/* source.c - operators whose bytes are there before the step: the executor never launches them. */
#include "cuda.h"

#define SOURCE(op) \
    extern const struct qn__kernel qn__cuda_##op; \
    const struct qn__kernel qn__cuda_##op = { 0 }

SOURCE(input);
SOURCE(store);
SOURCE(full);     /* filled once, when the program is loaded */
SOURCE(constant); /* likewise                                */
SOURCE(output);   /* written by its operand's step    */
SOURCE(reshape);  /* its operand's bytes under other dims    */
