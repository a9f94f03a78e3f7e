/* Feeds a rhythm network with the intervals of beats.bin and writes answers.bin: on a computer, and
   by semihosting on an emulated microcontroller, where it also counts.

   beats.bin holds words of 32 bits, little-endian: microseconds, 0 where an interval is not known,
   0xFFFFFFFF after a stretch. answers.bin gets two words a beat: P(AF), in the network's own type,
   and the verdict. counts.txt gets the beats, the instructions of all of them, of the dearest beat
   and of the dearest end of a stretch, and the bytes of stack that a call used. With BARE it is the
   least firmware that decides: its size is what a network costs. */

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define JOIN(a, b) a##_##b
#define NAMED(a, b) JOIN(a, b)
#define OF(name) NAMED(MODEL, name)
#include HEADER

#define END 0xFFFFFFFFU
#define PAINT 0xA5A5A5A5U
#define PAINTED 512

static OF(state) state;

#ifdef BARE
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
#else

#include "ticks.h"

static uint64_t total, dearest_beat, dearest_end, beats;
static FILE *answers;

static int answer_next(OF(answer) * answer, uint64_t *taken)
{
    uint32_t start = now();
    int ready = OF(next)(&state, answer);
    *taken += ticks_since(start);
    return ready;
}

/* Write what is ready; `taken` is what the beat, or the end, has cost so far. */
static void drain(uint64_t taken, uint64_t *dearest)
{
    OF(answer) answer;
    while (answer_next(&answer, &taken)) {
        uint32_t words[2] = { 0, answer.verdict };
        memcpy(&words[0], &answer.p_af, sizeof answer.p_af);
        fwrite(words, 4, 2, answers);
        beats++;
    }
    total += taken;
    *dearest = taken > *dearest ? taken : *dearest;
}

int main(void)
{
    FILE *source = fopen("beats.bin", "rb");
    answers = fopen("answers.bin", "wb");
    if (!source || !answers)
        return 1;
    uint32_t stack = 0;
    start_ticks();
    OF(begin)(&state);
    uint32_t word;
    while (fread(&word, 4, 1, source) == 1) {
        uint64_t taken = 0;
        if (word == END) {
            OF(end)(&state);
            drain(0, &dearest_end);
            OF(begin)(&state);
            continue;
        }
        uint32_t start = now();
        if (!OF(beat)(&state, word))
            return 2;
        taken = ticks_since(start);
#ifdef __arm__
        if (beats == 100) { /* paint the stack under this frame, and look how far a call came */
            volatile uint32_t *top;
            OF(answer) answer;
            OF(state) copy = state;
            __asm volatile("mov %0, sp" : "=r"(top));
            for (int k = 1; k <= PAINTED; k++)
                top[-k] = PAINT;
            OF(next)(&copy, &answer);
            int deepest = PAINTED;
            while (deepest && top[-deepest] == PAINT)
                deepest--;
            stack = (uint32_t)deepest * 4;
        }
#endif
        drain(taken, &dearest_beat);
    }
    FILE *counts = fopen("counts.txt", "w");
    if (!counts)
        return 1;
    fprintf(counts, "%lu %.0f %.0f %.0f %lu\n", (unsigned long)beats, (double)total * NS_A_TICK,
            (double)dearest_beat * NS_A_TICK, (double)dearest_end * NS_A_TICK, (unsigned long)stack);
    fclose(counts);
    fclose(answers);
    return 0;
}
#endif
