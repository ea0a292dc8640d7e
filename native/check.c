/* Checks every set of kernels that this machine can run against plain loops in double precision, and
 * the threads. Prints what deviates; exit status 1 if something does. docs/develop/native.md tells
 * how to run it for other processors.
 */

#include "check.h"
#include "check_attend.h"
#include "check_convolve.h"
#include "check_product.h"
#include "check_relative.h"
#include "check_rows.h"
#include "check_signal.h"

/* The threads: callers that take turns, each with a step whose tasks add 1 to a row. */
enum { CALLERS = 3, ROUNDS = 300, STEPS = 5, COUNTED = 16 };

static void *call_often(void *unused) {
    (void)unused;
    float rows[40 * COUNTED] = {0}, one[COUNTED];
    for (int i = 0; i < COUNTED; i++) one[i] = 1.0f;
    int64_t words[STEPS][STEP_WORDS] = {{0}};
    rows_step s = {.kind = STEP_ROWS, .x = rows, .x_stride = COUNTED, .shift_slot = 2, .y = rows,
        .y_stride = COUNTED, .width = COUNTED, .block = COUNTED};
    for (int n = 0; n < STEPS; n++) memcpy(words[n], &s, sizeof s);
    for (int64_t round = 1; round <= ROUNDS; round++) {
        int64_t slots[] = {round % 40, 1, (int64_t)(intptr_t)one};
        float before[40];
        for (int r = 0; r < 40; r++) before[r] = rows[r * COUNTED];
        mynah_run(threads, kernels, words[0], STEPS, slots);
        for (int r = 0; r < 40; r++)
            expect("rounds", rows[r * COUNTED], before[r] + (r < round % 40 ? STEPS : 0), 0);
    }
    return NULL;
}

static void check_threads(void) {
    pthread_t callers[CALLERS];
    for (int i = 0; i < CALLERS; i++) pthread_create(&callers[i], NULL, call_often, NULL);
    for (int i = 0; i < CALLERS; i++) pthread_join(callers[i], NULL);
}

/* The argument: how many random cases of each kind. */
int main(int count, char **arguments) {
    int rounds = count > 1 ? atoi(arguments[1]) : 12;
    static const char *const names[] = {"portable", "avx2", "avxvnni", "avx512vnni", "neon", "i8mm"};
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        kernels = mynah_kernels(names[n]);
        if (!kernels) continue;
        for (int size = 1; size <= 4; size += 3) {
            threads = mynah_pool_new(size, 2);
            check_halves();
            for (int round = 0; round < rounds; round++) {
                check_product();
                check_exact();
                check_rows(round % (ACT_LEAKY + 1));
                check_context();
                check_rotate();
                check_attend();
                check_causal();
                check_append();
                check_relative();
                check_convolve();
                check_folded();
                check_double();
                check_keep();
                check_join();
                check_spectrum(round & 1);
            }
            check_threads();
            mynah_pool_free(threads);
        }
        printf("%s: %s\n", kernels->name, failures ? "deviates" : "as computed in double precision");
    }
    return failures != 0;
}
