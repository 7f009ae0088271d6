/* source.c - operators whose bytes are there before the step: the executor never launches them. */
#include "cpu.h"

KERNEL(input) = { 0 };
KERNEL(store) = { 0 };
KERNEL(full) = { 0 };     /* filled once, when the program is loaded */
KERNEL(constant) = { 0 }; /* likewise                                */
KERNEL(output) = { 0 };   /* written by its operand's step           */
KERNEL(reshape) = { 0 };  /* its operand's bytes under other dims    */
