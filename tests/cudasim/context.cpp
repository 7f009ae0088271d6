/* context.cpp - the switch from one stack to another: in assembly where that is known, else by ucontext, which makes
 * two system calls each time (20 times slower). */
#include "fiber.h"

#ifdef __x86_64__
/* Saves what the calling convention lets a callee keep, changes stacks, and returns on the other one. */
__asm__(".text\n"
        ".hidden cudasim_switch\n"
        ".globl cudasim_switch\n"
        ".type cudasim_switch, @function\n"
        "cudasim_switch:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size cudasim_switch, .-cudasim_switch\n");
extern "C" void cudasim_switch(void **save, void *to);

namespace cudasim
{

void context_make(Fiber *f, void (*entry)(), size_t colour)
{
    /* As if a call had pushed a return address: the stack is 8 modulo 16 when `entry` begins. */
    void **top = (void **)(f->high - colour);
    *--top = nullptr;
    *--top = (void *)entry;
    for (int i = 0; i < 6; i++) *--top = nullptr;
    f->top = top;
}
void context_switch(Fiber *from, Fiber *to) { cudasim_switch(&from->top, to->top); }

} // namespace cudasim
#else
namespace cudasim
{

void context_make(Fiber *f, void (*entry)(), size_t colour)
{
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->low;
    f->context.uc_stack.ss_size = (size_t)(f->high - f->low) - colour;
    f->context.uc_link = nullptr;
    makecontext(&f->context, entry, 0);
}
void context_switch(Fiber *from, Fiber *to) { swapcontext(&from->context, &to->context); }

} // namespace cudasim
#endif
