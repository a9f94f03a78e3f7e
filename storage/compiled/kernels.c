/* The inner loops of signal path and decisions, compiled. Each has a twin in numpy that gives the same bits.

   Every sum is taken in one written order. No product is contracted into a sum and no loop is
   reassociated (-ffp-contract=off, no -ffast-math), so a result does not depend on the processor,
   the compiler or the width of its vectors. No state, no allocation: the caller gives all memory.
   `storage/compiled/kernels.py` builds and loads this file; tests/storage/test_compiled.py holds
   each function to its twin. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__linux__)
#define WIDE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDE
#endif
#define INLINE static inline __attribute__((always_inline))

/* ---- wavelets ------------------------------------------------------------------------------ */

/* Outputs that are made at once: the sums stay in registers, however wide these are. */
#define GROUP 16
typedef float group __attribute__((vector_size(4 * GROUP)));
#define LOAD(name, from) group name; memcpy(&name, from, sizeof name)

/* The same of 32-bit words, and what a comparison of two groups gives: all bits or none. */
typedef int32_t words __attribute__((vector_size(4 * GROUP)));
#define CHOOSE(where, a, b) ((group)(((words)(a) & (where)) | ((words)(b) & ~(where))))
#define LARGER(a, b) CHOOSE((a) > (b), a, b)
#define SMALLER(a, b) CHOOSE((a) < (b), a, b)
/* A group's words, those `by` further on first. */
#if defined(__clang__)
#define TURN(x, by) __builtin_shufflevector(x, x, AT16(by))
#else
#define TURN(x, by) __builtin_shuffle(x, (words){AT16(by)})
#endif
#define AT16(by) AT4(by), AT4(by + 4), AT4(by + 8), AT4(by + 12)
#define AT4(by) (by) % 16, (by + 1) % 16, (by + 2) % 16, (by + 3) % 16

/* out[k] = sum over j, ascending, of taps[j] x[2 k + 1 - j], x being zero before its beginning and
   after its end; even and odd hold x[2 k] and x[2 k + 1], zeros around them. */
INLINE void down(const float *even, const float *odd, const float *low, const float *high,
                 ptrdiff_t taps, float *a, float *d, ptrdiff_t count)
{
    for (ptrdiff_t at = 0; at < count; at += GROUP) {
        LOAD(x, odd + at);
        LOAD(y, even + at);
        group sa = low[0] * x, sd = high[0] * x;
        sa += low[1] * y;
        sd += high[1] * y;
        for (ptrdiff_t j = 1; j < taps / 2; j++) {
            memcpy(&x, odd + at - j, sizeof x);
            memcpy(&y, even + at - j, sizeof y);
            sa += low[2 * j] * x;
            sd += high[2 * j] * x;
            sa += low[2 * j + 1] * y;
            sd += high[2 * j + 1] * y;
        }
        memcpy(a + at, &sa, sizeof sa);
        memcpy(d + at, &sd, sizeof sd);
    }
}

/* out[2 k] and out[2 k + 1] = sums over j of low[2 j] a[k - j] and low[2 j + 1] a[k - j], then the
   same of high and d, the two sums added. */
INLINE void up(const float *a, const float *d, const float *low, const float *high,
               ptrdiff_t taps, float *out, ptrdiff_t count)
{
    for (ptrdiff_t at = 0; at < count; at += GROUP) {
        LOAD(x, a + at);
        LOAD(y, d + at);
        group even = low[0] * x, odd = low[1] * x, more_even = high[0] * y, more_odd = high[1] * y;
        for (ptrdiff_t j = 1; j < taps / 2; j++) {
            memcpy(&x, a + at - j, sizeof x);
            memcpy(&y, d + at - j, sizeof y);
            even += low[2 * j] * x;
            odd += low[2 * j + 1] * x;
            more_even += high[2 * j] * y;
            more_odd += high[2 * j + 1] * y;
        }
        even += more_even;
        odd += more_odd;
        float pair[2][GROUP];
        memcpy(pair[0], &even, sizeof even);
        memcpy(pair[1], &odd, sizeof odd);
        for (ptrdiff_t k = 0; k < GROUP; k++) {
            out[2 * (at + k)] = pair[0][k];
            out[2 * (at + k) + 1] = pair[1][k];
        }
    }
}

/* The value that would be at `rank` of |x| in order; work holds as many floats. */
static float order_statistic(const float *x, ptrdiff_t count, ptrdiff_t rank, float *work)
{
    uint32_t histogram[4096] = {0};
    for (ptrdiff_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, 4);
        histogram[(bits & 0x7fffffffu) >> 19]++;
    }
    uint32_t bin = 0;
    while (rank >= (ptrdiff_t)histogram[bin])
        rank -= histogram[bin++];
    /* The bits of floats that are not negative are in the floats' order. */
    uint32_t *near = (uint32_t *)work;
    ptrdiff_t m = 0;
    for (ptrdiff_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, 4);
        bits &= 0x7fffffffu;
        near[m] = bits;
        m += bits >> 19 == bin;
    }
    /* Then bit by bit: those with a zero there go first. */
    for (int bit = 18; bit >= 0 && m > 1; bit--) {
        ptrdiff_t zeros = 0;
        for (ptrdiff_t i = 0; i < m; i++)
            zeros += !(near[i] >> bit & 1);
        uint32_t want = rank >= zeros;
        if (want)
            rank -= zeros;
        ptrdiff_t kept = 0;
        for (ptrdiff_t i = 0; i < m; i++) {
            uint32_t own = near[i];
            near[kept] = own;
            kept += (own >> bit & 1) == want;
        }
        m = kept;
    }
    float out;
    memcpy(&out, near, 4);
    return out;
}

INLINE void shrink_by(const float *x, ptrdiff_t n, ptrdiff_t start, ptrdiff_t stop,
                      const float *filters, ptrdiff_t taps, ptrdiff_t levels, double factor,
                      float *work, float *out)
{
    const float *low = filters, *high = filters + taps;
    const float *back_low = filters + 2 * taps, *back_high = filters + 3 * taps;
    ptrdiff_t reach = taps / 2;
    /* Rows of half a level's samples, each between zeros: even, odd, then the details of every
       level; every approximation takes the place of the samples that it was made of. */
    ptrdiff_t half = n / 2 + 3 * taps + 2 * GROUP;
    float *even = work + reach, *odd = even + half, *own = odd + half, *details = own + 2 * half;
    ptrdiff_t length[32];
    const float *from = x;
    ptrdiff_t count = n;
    /* Zeros stand before the signal, as many as make the first rows those of "periodization". */
    ptrdiff_t shift = reach - 1;
    for (ptrdiff_t level = 0; level < levels; level++) {
        length[level] = count + (level ? 0 : shift);
        ptrdiff_t pairs = (length[level] + taps - 1) / 2;
        ptrdiff_t filled = length[level] / 2, rest = reach + GROUP + 1;
        for (ptrdiff_t k = -reach; k < (level ? 0 : reach); k++)
            even[k] = odd[k] = 0;
        memset(even + filled, 0, (size_t)rest * sizeof(float));
        memset(odd + filled, 0, (size_t)rest * sizeof(float));
        ptrdiff_t lead = level ? 0 : shift, i = 0;
        for (; i < count && (lead & 1); lead++, i++)
            odd[lead / 2] = from[i];
        float *e = even + lead / 2, *o = odd + lead / 2;
        for (ptrdiff_t k = 0; k < (count - i) / 2; k++) {
            e[k] = from[i + 2 * k];
            o[k] = from[i + 2 * k + 1];
        }
        if ((count - i) & 1)
            e[(count - i) / 2] = from[count - 1];
        float *d = details + level * half + reach;
        if (taps == 8)
            down(even, odd, low, high, 8, own, d, pairs);
        else
            down(even, odd, low, high, taps, own, d, pairs);
        memset(d - reach, 0, (size_t)reach * sizeof(float));
        from = own;
        count = pairs;
    }
    const float *finest = details + reach + shift;
    ptrdiff_t judged = (stop + 1) / 2 - start / 2;
    float middle = order_statistic(finest + start / 2, judged, judged / 2, even - reach);
    float limit = (float)((double)middle / 0.6745 * factor);
    float *a = even;
    memcpy(a, own, (size_t)count * sizeof(float));
    for (ptrdiff_t level = levels - 1; level >= 0; level--) {
        float *d = details + level * half + reach;
        ptrdiff_t pairs = (length[level] + taps - 1) / 2;
        for (ptrdiff_t k = 0; k < pairs; k++) {
            float c = d[k] < -limit ? -limit : d[k];
            c = c > limit ? limit : c;
            d[k] -= c;
        }
        /* Of the pairs only those that the filters cover whole are samples. */
        ptrdiff_t whole = pairs - reach + 1;
        if (taps == 8)
            up(a + reach - 1, d + reach - 1, back_low, back_high, 8, own, whole);
        else
            up(a + reach - 1, d + reach - 1, back_low, back_high, taps, own, whole);
        if (level)
            memcpy(a, own, (size_t)length[level] * sizeof(float));
    }
    memcpy(out, own + shift, (size_t)n * sizeof(float));
}

/* Floats of work that holter_shrink wants. */
ptrdiff_t holter_shrink_work(ptrdiff_t n, ptrdiff_t taps, ptrdiff_t levels)
{
    return (n / 2 + 3 * taps + 2 * GROUP) * (levels + 4) + 2 * GROUP;
}

/* Wavelet shrinkage of a window; see `tasks.signal.filters.shrink`. */
WIDE void holter_shrink(const float *x, ptrdiff_t n, ptrdiff_t start, ptrdiff_t stop,
                        const float *filters, ptrdiff_t taps, ptrdiff_t levels, double factor,
                        float *work, float *out)
{
    shrink_by(x, n, start, stop, filters, taps, levels, factor, work, out);
}

/* ---- candidates of QRS complexes ----------------------------------------------------------- */

/* Windows that are summed at once. */
#define CHUNK 1024

/* Sums of `width` squares from each of `count` samples on, by doubling, as `moving` in
   `tasks.signal.filters` takes them: of x[i] + x[i + size] for sizes 1, 2, 4, ... */
INLINE void square_sums(const float *slope, ptrdiff_t count, ptrdiff_t width, float *work,
                        float *restrict out)
{
    float *restrict x = work, *restrict next = work + CHUNK + width + GROUP;
    ptrdiff_t n = count + width - 1, offset = 0;
    for (ptrdiff_t i = 0; i < n; i++)
        x[i] = slope[i] * slope[i];
    for (ptrdiff_t size = 1;; size *= 2) {
        if (width & size) {
            if (offset)
                for (ptrdiff_t i = 0; i < count; i++)
                    out[i] += x[offset + i];
            else
                memcpy(out, x, (size_t)count * sizeof(float));
            offset += size;
        }
        if (offset == width)
            return;
        n -= size;
        for (ptrdiff_t i = 0; i < n; i++)
            next[i] = x[i] + x[i + size];
        float *swap = x;
        x = next;
        next = swap;
    }
}

/* Moving mean of the squared slope, centred; zero where the window is not whole.
   work holds 2 * (CHUNK + width + GROUP) floats. */
WIDE void holter_moving_mean(const float *slope, ptrdiff_t length, ptrdiff_t width, float *work,
                             float *out)
{
    ptrdiff_t half = width / 2;
    float share = 1 / (float)width;
    memset(out, 0, (size_t)half * sizeof(float));
    memset(out + length - half, 0, (size_t)half * sizeof(float));
    for (ptrdiff_t at = 0; at < length - width + 1; at += CHUNK) {
        ptrdiff_t left = length - width + 1 - at, count = left < CHUNK ? left : CHUNK;
        square_sums(slope + at, count, width, work, out + half + at);
        for (ptrdiff_t i = 0; i < count; i++)
            out[half + at + i] *= share;
    }
}

/* Largest of x[0..n), which has no NaN. */
INLINE float largest(const float *x, ptrdiff_t n)
{
    if (n < GROUP) {
        float top = x[0];
        for (ptrdiff_t i = 1; i < n; i++)
            top = x[i] > top ? x[i] : top;
        return top;
    }
    LOAD(top, x + n - GROUP);
    for (ptrdiff_t i = 0; i < n - GROUP; i += GROUP) {
        LOAD(own, x + i);
        top = LARGER(own, top);
    }
    group other = TURN(top, 8);
    top = LARGER(other, top);
    other = TURN(top, 4);
    top = LARGER(other, top);
    other = TURN(top, 2);
    top = LARGER(other, top);
    return top[0] > top[1] ? top[0] : top[1];
}

/* Where x is above `least`, above all within `reach` before it and below none after it, in
   [first, last); gives how many. The caller's room is for (last - first) / reach + 1, and `reach`
   samples are there beyond both ends. */
WIDE ptrdiff_t holter_highest(const float *x, ptrdiff_t first, ptrdiff_t last, ptrdiff_t reach,
                              float least, int64_t *peak)
{
    ptrdiff_t count = 0;
    /* Such a place is the first largest of the `reach` samples among which it lies, and none of
       those beside them is higher. */
    for (ptrdiff_t at = first; at < last; at += reach) {
        ptrdiff_t n = last - at < reach ? last - at : reach;
        float top = largest(x + at, n);
        if (!(top > least) || top <= x[at - 1] || top < x[at + n])
            continue;
        ptrdiff_t i = at;
        while (x[i] != top)
            i++;
        if (largest(x + i - reach, reach) < top && largest(x + i + 1, reach) <= top)
            peak[count++] = i;
    }
    return count;
}

/* Sum of x[0..room), room a power of two: halves are added to halves. x is overwritten. */
INLINE float halved(float *x, ptrdiff_t room)
{
    for (ptrdiff_t half = room / 2; half; half /= 2)
        for (ptrdiff_t i = 0; i < half; i++)
            x[i] += x[i + half];
    return x[0];
}

/* Of each peak's window: the steepest slope; of each centre's: where the band is farthest from its
   mean. `work` holds `room` floats, a power of two not below the longer window. */
WIDE void holter_look(const float *slope, const float *band, const int64_t *peak,
                      const int64_t *centre, ptrdiff_t count, ptrdiff_t half, ptrdiff_t reach,
                      ptrdiff_t room, float *work, float *steep, int64_t *extremum)
{
    ptrdiff_t width = 2 * reach + 1;
    for (ptrdiff_t row = 0; row < count; row++) {
        const float *s = slope + peak[row] - half, *x = band + centre[row] - reach;
        for (ptrdiff_t i = 0; i < 2 * half + 1; i++)
            work[i] = __builtin_fabsf(s[i]);
        steep[row] = largest(work, 2 * half + 1);
        memcpy(work, x, (size_t)width * sizeof(float));
        memset(work + width, 0, (size_t)(room - width) * sizeof(float));
        float mean = halved(work, room) / (float)width;
        for (ptrdiff_t i = 0; i < width; i++)
            work[i] = __builtin_fabsf(x[i] - mean);
        float farthest = largest(work, width);
        ptrdiff_t i = 0;
        while (i < width && work[i] != farthest)
            i++;
        extremum[row] = centre[row] - reach + i;
    }
}

/* ---- which candidates are beats ------------------------------------------------------------- */

/* The rules of `tasks.signal.qrs.Rules._judge`, whose names these are. */
enum { BEFORE, SINCE, SEARCHED, LAST, AT, BEGIN, RECENT, INTERVALS, MEMORY = 8 };
enum { SIGNAL, NOISE, SLOPE_BEFORE };
enum { T_WAVE, SILENT, SEARCH_BACK, T_WAVE_SLOPE, QUIET, DECAY };

/* Judge the candidates from state[AT] on. Gives the number of beats; state[AT] is below `end` where
   thresholds are to be learnt from the candidates of [BEGIN, AT) first. before is -1 for none. */
ptrdiff_t holter_judge(const int64_t *centres, const double *heights, const double *slopes,
                       const int64_t *samples, ptrdiff_t end, const double *rules, int64_t *state,
                       double *level, int64_t *beats)
{
    int64_t *recent = state + INTERVALS, before = state[BEFORE], since = state[SINCE];
    double signal = level[SIGNAL], noise = level[NOISE];
    double early = before < 0 ? -__builtin_inf() : (double)before + rules[T_WAVE];
    double least_slope = rules[T_WAVE_SLOPE] * level[SLOPE_BEFORE];
    ptrdiff_t begin = state[BEGIN], number = state[AT], count = 0;
    int64_t held = state[RECENT], intervals = 0;
    int searched = state[SEARCHED] != 0, learn = 0;
    for (int64_t i = 0; i < held; i++)
        intervals += recent[i];
    while (number < end && !learn) {
        double too_long = (double)since + rules[SILENT], overdue = __builtin_inf();
        if (before >= 0 && held && !searched)
            overdue = (double)before + rules[SEARCH_BACK] * (double)intervals / (double)held;
        ptrdiff_t beat = -1;
        for (; number < end; number++) {
            double centre = (double)centres[number], height = heights[number];
            if (centre > too_long)
                break;
            double threshold = noise + 0.25 * (signal - noise);
            if (centre > overdue) {
                double highest = 0.5 * threshold;
                overdue = __builtin_inf();
                searched = 1;
                for (ptrdiff_t i = begin; i < number; i++)
                    if ((double)centres[i] > early && heights[i] > highest) {
                        beat = i;
                        highest = heights[i];
                    }
                if (beat >= 0) {
                    signal = 0.25 * highest + 0.75 * signal;
                    break;
                }
            }
            if (height > threshold && (centre >= early || slopes[number] >= least_slope)) {
                signal = 0.125 * height + 0.875 * signal;
                beat = number;
                break;
            }
            noise = 0.125 * height + 0.875 * noise;
        }
        if (beat >= 0) {
            int64_t centre = centres[beat];
            noise += rules[DECAY] * (rules[QUIET] * signal - noise);
            if (before >= 0) {
                if (held == MEMORY) {
                    intervals -= recent[0];
                    memmove(recent, recent + 1, (MEMORY - 1) * sizeof *recent);
                    held--;
                }
                recent[held++] = centre - before;
                intervals += centre - before;
            }
            before = since = centre;
            early = (double)centre + rules[T_WAVE];
            level[SLOPE_BEFORE] = slopes[beat];
            least_slope = rules[T_WAVE_SLOPE] * slopes[beat];
            searched = 0;
            begin = number = beat + 1;
            if (samples[beat] > state[LAST])
                beats[count++] = state[LAST] = samples[beat];
        } else if (number < end) {
            int64_t centre = centres[number];
            since = centre;
            while (begin < number && (double)centres[begin] < (double)centre - rules[SILENT])
                begin++;
            learn = 1;
        }
    }
    state[BEFORE] = before;
    state[SINCE] = since;
    state[SEARCHED] = searched;
    state[AT] = number;
    state[BEGIN] = begin;
    state[RECENT] = held;
    level[SIGNAL] = signal;
    level[NOISE] = noise;
    return count;
}

/* ---- beats --------------------------------------------------------------------------------- */

/* Interpolate the signal about a peak at width * steps[0..count), the places clipped to it. */
INLINE void interpolate(const float *middle, ptrdiff_t least, ptrdiff_t most, float width,
                        const float *steps, ptrdiff_t count, float *out)
{
    float low = (float)least, high = (float)(most - 1);
    int32_t place[512];
    for (ptrdiff_t k = 0; k < count; k++) {
        float away = width * steps[k];
        int32_t whole = (int32_t)away;
        whole -= (float)whole > away;
        place[k] = whole;
        out[k] = away - (float)whole;
    }
    int inside = width * steps[0] >= low && width * steps[count - 1] < high;
    if (inside) {
        for (ptrdiff_t k = 0; k < count; k++) {
            float value = middle[place[k]], step = middle[place[k] + 1];
            step -= value;
            step *= out[k];
            out[k] = value + step;
        }
        return;
    }
    for (ptrdiff_t k = 0; k < count; k++) {
        ptrdiff_t left = place[k] < least ? least : place[k] > most ? most : place[k];
        float value = middle[left], step = middle[left < most ? left + 1 : most];
        step -= value;
        step *= out[k];
        out[k] = value + step;
    }
}

/* Interpolate the signal at before * step and after * step about each peak, a row each; at most
   512 steps on either side. */
WIDE void holter_segment(const float *clean, ptrdiff_t n, const int64_t *peak, const float *before,
                         const float *after, ptrdiff_t rows, const float *steps,
                         ptrdiff_t left_steps, ptrdiff_t all_steps, float *out)
{
    for (ptrdiff_t row = 0; row < rows; row++, out += all_steps) {
        const float *middle = clean + peak[row];
        ptrdiff_t least = -peak[row], most = n - 1 - peak[row];
        interpolate(middle, least, most, before[row], steps, left_steps, out);
        interpolate(middle, least, most, after[row], steps + left_steps, all_steps - left_steps,
                    out + left_steps);
    }
}

/* Mean size of the second differences of x[0..n), n at most 130: halves are added to halves. */
INLINE float bend(const float *x, ptrdiff_t n, ptrdiff_t room)
{
    float size[128];
    for (ptrdiff_t i = 0; i < n - 2; i++) {
        float d = -2 * x[i + 1];
        d += x[i];
        d += x[i + 2];
        size[i] = __builtin_fabsf(d);
    }
    for (ptrdiff_t i = n - 2; i < room; i++)
        size[i] = 0;
    return halved(size, room) / (float)(n - 2);
}

/* Noise index of rows of `columns` values; see `tasks.signal.quality.noise_index`. */
WIDE void holter_noise(const float *rows, ptrdiff_t count, ptrdiff_t columns, float *out)
{
    for (ptrdiff_t row = 0; row < count; row++) {
        const float *x = rows + row * columns;
        float rest = bend(x + 180, 110, 128), complex = bend(x + 90, 22, 32);
        out[row] = rest / (complex < 1e-6f ? 1e-6f : complex);
    }
}

/* What `tasks.signal.quality` says of a cell. */
enum { GAP = 1, STILL = 8, SAME = 16 };

/* Least and largest value of every `width` samples, and what is said of them: a gap where one is no
   number, still where all are one value, the same where it is that of the still cell before.
   `bounds` becomes the least and the largest value of all that are numbers, and of those in cells
   without gaps; infinities where none is. */
WIDE void holter_cells(const float *x, ptrdiff_t cells, ptrdiff_t width, float *low, float *high,
                       uint8_t *state, float *bounds)
{
    float bottom = __builtin_inff(), top = -__builtin_inff(), lowest = bottom, highest = top;
    float before = __builtin_nanf("");
    words gaps = {0};
    ptrdiff_t i = 0;
    for (; i + GROUP <= cells * width; i += GROUP) {
        LOAD(own, x + i);
        gaps |= own != own;
    }
    int whole = width >= GROUP;
    for (ptrdiff_t k = 0; k < GROUP; k++)
        whole &= !gaps[k];
    for (; i < cells * width; i++)
        whole &= x[i] == x[i];
    for (ptrdiff_t cell = 0; cell < cells; cell++, x += width) {
        float least = __builtin_inff(), most = -__builtin_inff();
        int gap = 0;
        if (whole) {
            LOAD(lower, x + width - GROUP);
            group upper = lower;
            for (i = 0; i < width - GROUP; i += GROUP) {
                LOAD(own, x + i);
                lower = SMALLER(own, lower);
                upper = LARGER(own, upper);
            }
            group both = TURN(upper, 8);
            upper = LARGER(both, upper);
            both = TURN(lower, 8);
            lower = SMALLER(both, lower);
            both = TURN(upper, 4);
            upper = LARGER(both, upper);
            both = TURN(lower, 4);
            lower = SMALLER(both, lower);
            for (ptrdiff_t k = 0; k < 4; k++) {
                least = lower[k] < least ? lower[k] : least;
                most = upper[k] > most ? upper[k] : most;
            }
        } else
            for (i = 0; i < width; i++) {
                least = x[i] < least ? x[i] : least;
                most = x[i] > most ? x[i] : most;
                gap |= x[i] != x[i];
            }
        bottom = least < bottom ? least : bottom;
        top = most > top ? most : top;
        int still = !gap && least == most;
        low[cell] = gap ? __builtin_nanf("") : least;
        high[cell] = gap ? __builtin_nanf("") : most;
        state[cell] = (uint8_t)(gap * GAP + still * STILL + (still && least == before) * SAME);
        before = still ? least : __builtin_nanf("");
        lowest = !gap && least < lowest ? least : lowest;
        highest = !gap && most > highest ? most : highest;
    }
    bounds[0] = bottom;
    bounds[1] = top;
    bounds[2] = lowest;
    bounds[3] = highest;
}

/* The longest runs among looks at every `step`-th sample: of those that are no number, of pairs of
   one value, and of pairs that are at most `quiet` apart. */
void holter_runs(const float *x, ptrdiff_t n, ptrdiff_t step, float quiet, int64_t *longest)
{
    int64_t run[3] = {0, 0, 0};
    float before = __builtin_nanf("");
    longest[0] = longest[1] = longest[2] = 0;
    for (ptrdiff_t i = 0; i < n; i += step) {
        float away = __builtin_fabsf(x[i] - before);
        before = x[i];
        run[0] = before != before ? run[0] + 1 : 0;
        run[1] = away == 0 ? run[1] + 1 : 0;
        run[2] = away <= quiet ? run[2] + 1 : 0;
        for (int kind = 0; kind < 3; kind++)
            longest[kind] = run[kind] > longest[kind] ? run[kind] : longest[kind];
    }
}

/* ---- prints -------------------------------------------------------------------------------- */

/* Sixteen words of all bits or none as bits in two bytes, the first one highest. A macro, as a
   vector that is passed has no form that every processor knows. */
#define BITS_OF(name, all)                 \
    words name = (all) & WEIGHTS;          \
    name |= TURN(name, 8);                 \
    name |= TURN(name, 4);                 \
    name |= TURN(name, 2);                 \
    name[0] |= name[1]
#define WEIGHTS                                                  \
    (words){0x80,   0x40,   0x20,   0x10,   0x8,   0x4,   0x2,   0x1, \
            0x8000, 0x4000, 0x2000, 0x1000, 0x800, 0x400, 0x200, 0x100}

/* Of each piece of `steps` steps from sample to sample, a multiple of 16: a bit for each step up,
   then one for each step down, the first one highest. `changes` counts them. */
WIDE void holter_steps(const float *x, ptrdiff_t pieces, ptrdiff_t steps, uint8_t *out,
                       int32_t *changes)
{
    for (ptrdiff_t piece = 0; piece < pieces; piece++, x += steps, out += steps / 4) {
        int32_t count = 0;
        for (ptrdiff_t i = 0; i < steps; i += GROUP) {
            LOAD(from, x + i);
            LOAD(to, x + i + 1);
            BITS_OF(ups, to > from);
            BITS_OF(downs, to < from);
            out[i / 8] = (uint8_t)ups[0];
            out[i / 8 + 1] = (uint8_t)(ups[0] >> 8);
            out[(steps + i) / 8] = (uint8_t)downs[0];
            out[(steps + i) / 8 + 1] = (uint8_t)(downs[0] >> 8);
            count += __builtin_popcount((unsigned)ups[0]) + __builtin_popcount((unsigned)downs[0]);
        }
        changes[piece] = count;
    }
}

static const uint64_t BLAKE_START[8] = {
    0x6a09e667f3bcc908u, 0xbb67ae8584caa73bu, 0x3c6ef372fe94f82bu, 0xa54ff53a5f1d36f1u,
    0x510e527fade682d1u, 0x9b05688c2b3e6c1fu, 0x1f83d9abfb41bd6bu, 0x5be0cd19137e2179u};
static const uint8_t BLAKE_ORDER[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4},
    {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13},
    {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11},
    {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5},
    {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};

INLINE uint64_t turned(uint64_t x, int bits)
{
    return x >> bits | x << (64 - bits);
}

INLINE void mix(uint64_t *v, int a, int b, int c, int d, uint64_t x, uint64_t y)
{
    v[a] += v[b] + x;
    v[d] = turned(v[d] ^ v[a], 32);
    v[c] += v[d];
    v[b] = turned(v[b] ^ v[c], 24);
    v[a] += v[b] + y;
    v[d] = turned(v[d] ^ v[a], 16);
    v[c] += v[d];
    v[b] = turned(v[b] ^ v[c], 63);
}

/* BLAKE2b (RFC 7693) of 8 bytes of every piece of 1 to 128 bytes, without a key. */
void holter_digests(const uint8_t *data, ptrdiff_t pieces, ptrdiff_t size, uint8_t *out)
{
    for (ptrdiff_t piece = 0; piece < pieces; piece++, data += size, out += 8) {
        uint64_t words[16] = {0}, v[16];
        memcpy(words, data, (size_t)size);
        memcpy(v, BLAKE_START, sizeof BLAKE_START);
        memcpy(v + 8, BLAKE_START, sizeof BLAKE_START);
        v[0] ^= 0x01010008u;
        v[12] ^= (uint64_t)size;
        v[14] = ~v[14];
        uint64_t first = v[0];
        for (int round = 0; round < 12; round++) {
            const uint8_t *order = BLAKE_ORDER[round % 10];
            for (int k = 0; k < 4; k++)
                mix(v, k, 4 + k, 8 + k, 12 + k, words[order[2 * k]], words[order[2 * k + 1]]);
            for (int k = 0; k < 4; k++)
                mix(v, k, 4 + (k + 1) % 4, 8 + (k + 2) % 4, 12 + (k + 3) % 4,
                    words[order[8 + 2 * k]], words[order[9 + 2 * k]]);
        }
        first ^= v[0] ^ v[8];
        memcpy(out, &first, 8);
    }
}

/* ---- WFDB's samples ------------------------------------------------------------------------- */

/* The lead's values of frames, as (value - baseline) / gain, NaN where a value is `invalid`. */
WIDE void holter_decode_16(const uint8_t *data, ptrdiff_t frames, ptrdiff_t signals,
                           ptrdiff_t channel, int32_t invalid, float baseline, float gain,
                           float *out)
{
    const uint8_t *at = data + 2 * channel;
    for (ptrdiff_t i = 0; i < frames; i++, at += 2 * signals) {
        int32_t value = (int16_t)(at[0] | at[1] << 8);
        out[i] = value == invalid ? __builtin_nanf("") : ((float)value - baseline) / gain;
    }
}

/* The value of a pair's first or second sample: three bytes, the middle one shared. */
INLINE int32_t of_pair(const uint8_t *pair, int second)
{
    int32_t value = second ? pair[2] | (pair[1] & 0xf0) << 4 : pair[0] | (pair[1] & 15) << 8;
    return (value ^ 2048) - 2048;
}

INLINE float in_millivolts(int32_t value, int32_t invalid, float baseline, float gain)
{
    float x = ((float)value - baseline) / gain;
    return value == invalid ? __builtin_nanf("") : x;
}

/* The same of format 212, two samples in three bytes; `first` is the sample, counted from the
   first of a pair at `data`, that the lead's first value is. */
WIDE void holter_decode_212(const uint8_t *data, ptrdiff_t frames, ptrdiff_t signals,
                            ptrdiff_t first, int32_t invalid, float baseline, float gain,
                            float *out)
{
    if (signals == 2 && first == 0)
        for (ptrdiff_t i = 0; i < frames; i++)
            out[i] = in_millivolts(of_pair(data + 3 * i, 0), invalid, baseline, gain);
    else if (signals == 2 && first == 1)
        for (ptrdiff_t i = 0; i < frames; i++)
            out[i] = in_millivolts(of_pair(data + 3 * i, 1), invalid, baseline, gain);
    else
        for (ptrdiff_t i = 0; i < frames; i++) {
            ptrdiff_t sample = first + i * signals;
            int32_t value = of_pair(data + sample / 2 * 3, sample & 1);
            out[i] = in_millivolts(value, invalid, baseline, gain);
        }
}

/* ---- decisions ----------------------------------------------------------------------------- */

/* By how much AF leads at each of n beats: the evidence until then, held within `most` before
   each next beat. */
void holter_leads(const double *evidence, ptrdiff_t n, double most, double *lead)
{
    double before = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        before = before > most ? most : before < -most ? -most : before;
        before += evidence[i];
        lead[i] = before;
    }
}

/* The digest of this file when it was compiled; a library of another file is not used. */
const char *holter_source(void)
{
    return SOURCE_SHA256;
}
