/* The least firmware that decides: its size is what a network costs. */

#include <stdint.h>

#define JOIN(a, b) a##_##b
#define NAMED(a, b) JOIN(a, b)
#define OF(name) NAMED(MODEL, name)
#include HEADER

static OF(state) state;
volatile uint32_t rr_us; /* a detector would write it, 1 for the end of a stretch */
volatile uint32_t verdict;

int main(void)
{
    OF(begin)(&state);
    for (;;) {
        OF(answer) answer;
        if (rr_us == 1)
            OF(end)(&state);
        else if (!OF(beat)(&state, rr_us))
            OF(begin)(&state);
        while (OF(next)(&state, &answer))
            verdict = answer.verdict;
    }
}
