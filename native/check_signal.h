/* The self test of what a vocoder does beside its convolutions. */
#ifndef MYNAH_CHECK_SIGNAL_H
#define MYNAH_CHECK_SIGNAL_H

#include "check.h"
#include "check_convolve.h"

static void check_keep(void) {
    enum { STATE, COUNTS };
    int64_t width = random_between(1, 40), before = random_between(0, 20), new = random_between(0, 30);
    int64_t now = random_between(0, before + new), zeros = random_between(0, 5), rows = before + new;
    int64_t held = before > now ? before : now;
    float *x = random_floats((rows + zeros) * width + 1), *state = random_floats(OFFSET + held * width);
    float *all = malloc((rows * width + 1) * sizeof *all);
    float *old = malloc((OFFSET + held * width) * sizeof *old);
    memcpy(old, state, (OFFSET + held * width) * sizeof *old);
    memcpy(all, old + OFFSET, before * width * sizeof *all);
    memcpy(all + before * width, x + before * width, new * width * sizeof *all);
    keep_step s = {.kind = STEP_KEEP, .x = x, .width = width, .counts_slot = COUNTS,
        .state_slot = STATE, .offset = OFFSET};
    int64_t slots[] = {(int64_t)(intptr_t)state, before, new, now, zeros};
    RUN(s, slots);
    for (int64_t i = 0; i < (rows + zeros) * width; i++)
        expect("rows with those kept", x[i], i < rows * width ? all[i] : 0.0f, 0.0);
    for (int64_t i = 0; i < OFFSET; i++) expect("state of others", state[i], old[i], 0.0);
    for (int64_t i = 0; i < held * width; i++)
        expect("kept", state[OFFSET + i],
               i < now * width ? all[(rows - now) * width + i] : old[OFFSET + i], 0.0);
    free(x), free(state), free(all), free(old);
}

static void check_join(void) {
    int64_t rows = random_between(1, 150), width = 16 * random_between(1, 6);
    int64_t count = random_between(1, MOST_JOINED);
    float *x[MOST_JOINED], *y = calloc(OFFSET + rows * width, sizeof *y);
    int64_t slots[2 + MOST_JOINED] = {rows, OFFSET};
    join_step s = {.kind = STEP_JOIN, .y = y, .y_slot = 1, .rows_slot = AT_ROWS, .width = width,
        .scale = 1.0 / 3, .slope = random_bits() & 1 ? 1.0 : 0.1, .count = count};
    for (int64_t n = 0; n < count; n++) {
        slots[2 + n] = random_between(0, 9);
        s.parts[n].x = x[n] = random_floats(slots[2 + n] + rows * width);
        s.parts[n].slot = 2 + n;
    }
    RUN(s, slots);
    for (int64_t i = 0; i < rows * width; i++) {
        double sum = 0.0;
        for (int64_t n = 0; n < count; n++) sum += x[n][slots[2 + n] + i];
        sum /= 3.0;
        expect("sum of rows", y[OFFSET + i], sum < 0.0 ? s.slope * sum : sum, 1e-6);
    }
    for (int64_t i = 0; i < OFFSET; i++) expect("before a sum", y[i], 0.0, 0.0);
    for (int64_t n = 0; n < count; n++) free(x[n]);
    free(y);
}

/* With `filters`, what is made of the spectra of a source; else of angles that are sines. */
static void check_spectrum(int filters) {
    enum { AT_SOURCE = AT_Y };
    int64_t rows = random_between(1, 80), bins = 16 * random_between(1, 5), parts = filters ? 3 : 2;
    int64_t stride = parts * bins + random_between(0, 5), y_stride = 2 * bins + random_between(0, 5);
    float *x = random_floats(OFFSET + rows * stride), *y = calloc(rows * y_stride, sizeof *y);
    float *source = random_floats(OFFSET + rows * 4 * bins);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < parts * bins; i++) /* angles of many turns */
            x[OFFSET + r * stride + i] *= i / bins == 1 ? 20.0f : 6.0f;
    spectrum_step s = {.kind = STEP_SPECTRUM, .x = x, .x_stride = stride, .x_slot = AT_X,
        .rows_slot = AT_ROWS, .bins = bins, .most = 100.0, .source = filters ? source : NULL,
        .source_stride = 4 * bins, .source_slot = AT_SOURCE, .y = y, .y_stride = y_stride};
    int64_t slots[] = {rows, OFFSET, OFFSET};
    RUN(s, slots);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < bins; i++) {
            const float *row = x + OFFSET + r * stride + i, *given = source + OFFSET + r * 4 * bins + i;
            double size = fmin(100.0, exp(row[0])), angle = filters ? row[bins] : sin(row[bins]);
            double re = size * cos(angle), im = size * sin(angle), most = size;
            if (filters) {
                double noise = fmin(100.0, exp(row[2 * bins])), turned = re * given[0] - im * given[bins];
                im = re * given[bins] + im * given[0] + noise * given[3 * bins];
                re = turned + noise * given[2 * bins], most += noise;
            }
            expect("real part", y[r * y_stride + i], re, 2e-6 * most);
            expect("imaginary part", y[r * y_stride + bins + i], im, 2e-6 * most);
        }
    free(x), free(y), free(source);
}

#endif
