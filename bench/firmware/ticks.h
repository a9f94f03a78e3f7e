/* Instructions on an emulated Cortex-M: SysTick runs at 25 MHz of the board's time, in which an
   instruction takes 1 ns. Elsewhere nothing is counted. */

#include <stdint.h>

#ifdef __arm__
#define SYSTICK ((volatile uint32_t *)0xE000E010)
#define NS_A_TICK 40
static uint32_t now(void) { return 0xFFFFFFU - SYSTICK[2]; }
static void start_ticks(void)
{
    SYSTICK[1] = 0xFFFFFF;
    SYSTICK[2] = 0;
    SYSTICK[0] = 5; /* on, by the processor's clock */
}
#else
#define NS_A_TICK 0
static uint32_t now(void) { return 0; }
static void start_ticks(void) { }
#endif

static uint32_t ticks_since(uint32_t start)
{
    return (now() - start) & 0xFFFFFFU;
}
