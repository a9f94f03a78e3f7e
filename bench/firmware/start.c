/* Vectors of a Cortex-M, and the way from reset to newlib's start, or to a bare program. */

#include <stdint.h>

extern void stack_top(void); /* where the stack begins: a place, no function */
#ifdef BARE
extern uint32_t __bss_start__[], __bss_end__[];
extern int main(void);
static void begin(void)
{
    for (uint32_t *word = __bss_start__; word < __bss_end__; word++)
        *word = 0;
    main();
}
#else
extern void _start(void);
#define begin _start
#endif

void reset(void);
void reset(void)
{
    *(volatile uint32_t *)0xE000ED88 |= 0xFU << 20; /* the floating-point unit on */
    __asm volatile("dsb\n isb");
    begin();
}

static void fault(void)
{
    for (;;) {
    }
}

__attribute__((section(".vectors"), used)) static void (*const vectors[16])(void) = {
    stack_top, reset, fault, fault, fault, fault, fault,
};
