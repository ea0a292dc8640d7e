/* Kernels of mynah's native backend: the interface between the files, and to Python.
 *
 * A network call is a program: an array of steps (what to do, on which memory), run by a few
 * threads that share the tasks of a step and wait for each other before the next one. Python
 * builds programs once; a call passes only what changes, in a table of slots. Nothing here
 * allocates while a program runs.
 */
#ifndef MYNAH_H
#define MYNAH_H

#include <stddef.h>
#include <stdint.h>

#define MYNAH_ABI 4
#define STEP_WORDS 24 /* 64-bit words of a step: its kind, then the fields of its struct */
#define TILE 64       /* columns of a packed matrix that lie together */
#define MAX_GROUP 6   /* rows that a product computes together */

#if defined(_WIN32)
#define MYNAH_EXPORT __declspec(dllexport)
#else
#define MYNAH_EXPORT __attribute__((visibility("default")))
#endif

/* Words of the slot table that every program has. */
enum { SLOT_FRAMES, SLOT_BRANCHES, SLOT_FIRST };

typedef enum {
    STEP_ROWS,    /* normalise, activate, quantise: whatever sees one row at a time */
    STEP_PRODUCT, /* rows in eight bits times a matrix in eight bits */
    STEP_EXACT,   /* the same in float32 */
    STEP_ATTEND,  /* attention over a cache in eight bits, without a mask */
    STEP_CONTEXT, /* frames before the first one: from the state, and back to it */
    STEP_CAUSAL,  /* rotary positions and causal attention over a cache in half precision */
    STEP_APPEND,  /* new keys and values of that attention to the cache */
    STEP_FOLD,    /* snake, and what convolutions with fewer products need */
    STEP_CONVOLVE, /* rows times a float32 matrix, from and to where slots say */
    STEP_DOUBLE,  /* the same in double precision */
    STEP_KEEP,    /* rows of the calls before, and to the next one */
    STEP_JOIN,    /* sums of rows */
    STEP_SPECTRUM, /* magnitudes and angles to spectra */
    STEP_ROTATE,   /* rotary positions of one head */
    STEP_RELATIVE, /* attention over a float32 cache, by content and distance */
    STEP_KINDS
} step_kind;

/* Everything a task may read beside its step. */
typedef struct {
    const int64_t *slots;
    int threads;
} call;

typedef struct {
    int64_t (*tasks)(const int64_t *step, const call *);
    void (*run)(const int64_t *step, const call *, int64_t task);
} step_code;

/* One set of kernels for each instruction set; the fastest one that runs here is chosen. */
typedef struct {
    const char *name;
    int lanes;
    step_code steps[STEP_KINDS];
} kernel_set;

extern const kernel_set kernels_portable;
#if defined(__x86_64__) || defined(_M_X64)
extern const kernel_set kernels_avx2, kernels_avxvnni, kernels_avx512vnni;
#elif defined(__aarch64__)
extern const kernel_set kernels_neon, kernels_i8mm;
#endif

/* Rows of a buffer: branch after branch, each with `pad` rows before its frames. */
static inline int64_t padded_row(int64_t row, int64_t frames, int64_t pad) {
    return pad ? row + (row / frames + 1) * pad : row;
}

#endif
