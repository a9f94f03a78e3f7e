/* Finds the R peaks of ecg.bin (values of the detector's type, little-endian) and writes their
   samples, words of 32 bits, to peaks.bin; on an emulated microcontroller it counts too: counts.txt
   gets samples, instructions of all and of the dearest, 0, and 0. With BARE it is the least
   firmware that detects: its size is what the detector costs. */

#include <stdint.h>
#include <stdio.h>

#include "qrs.h"

static qrs_state state;

#ifdef BARE
volatile qrs_value value; /* a converter would write it */
volatile uint32_t peak;

int main(void)
{
    uint32_t sample;
    for (qrs_begin(&state);;) {
        if (!qrs_sample(&state, value))
            qrs_end(&state);
        while (qrs_next(&state, &sample))
            peak = sample;
    }
}
#else

#include "ticks.h"

int main(void)
{
    FILE *source = fopen("ecg.bin", "rb"), *peaks = fopen("peaks.bin", "wb");
    if (!source || !peaks)
        return 1;
    uint64_t total = 0, dearest = 0;
    uint32_t samples = 0;
    qrs_value value;
    start_ticks();
    qrs_begin(&state);
    for (int more = 1; more;) {
        more = fread(&value, sizeof value, 1, source) == 1;
        uint32_t start = now(), sample;
        if (!more)
            qrs_end(&state);
        else if (!qrs_sample(&state, value))
            return 2;
        uint64_t taken = ticks_since(start);
        for (;;) {
            start = now();
            int ready = qrs_next(&state, &sample);
            taken += ticks_since(start);
            if (!ready)
                break;
            fwrite(&sample, sizeof sample, 1, peaks);
        }
        samples += (uint32_t)more;
        if (more) {
            total += taken;
            dearest = taken > dearest ? taken : dearest;
        }
    }
    FILE *counts = fopen("counts.txt", "w");
    if (!counts)
        return 1;
    fprintf(counts, "%lu %.0f %.0f 0 0\n", (unsigned long)samples, (double)total * NS_A_TICK,
            (double)dearest * NS_A_TICK);
    fclose(counts);
    fclose(peaks);
    return 0;
}
#endif
