/* Threads that run programs together. No thread waits for another one to arrive, only for tasks that
 * were begun: one that the system lets wait, or that still wakes up, costs nothing but its help. Who
 * finds no task waits actively for a moment, because most steps take microseconds, and then sleeps.
 *
 * The tasks of a step are dealt out as runs of neighbours, one for each thread, which helps the others
 * when it is through: a processor reads a long piece of memory faster than many that lie apart
 * (measured: 20 % less time for a matrix times one row). */

#include "mynah.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#if defined(_WIN32)
#include <windows.h>
typedef CRITICAL_SECTION lock;
typedef CONDITION_VARIABLE signal_;
typedef HANDLE thread;
static void lock_new(lock *l) { InitializeCriticalSection(l); }
static void lock_free(lock *l) { DeleteCriticalSection(l); }
static void lock_take(lock *l) { EnterCriticalSection(l); }
static void lock_leave(lock *l) { LeaveCriticalSection(l); }
static void signal_new(signal_ *s) { InitializeConditionVariable(s); }
static void signal_free(signal_ *s) { (void)s; }
static void signal_wait(signal_ *s, lock *l) { SleepConditionVariableCS(s, l, INFINITE); }
static void signal_all(signal_ *s) { WakeAllConditionVariable(s); }
static void thread_yield(void) { SwitchToThread(); }
#else
#include <pthread.h>
#include <sched.h>
typedef pthread_mutex_t lock;
typedef pthread_cond_t signal_;
typedef pthread_t thread;
static void lock_new(lock *l) { pthread_mutex_init(l, NULL); }
static void lock_free(lock *l) { pthread_mutex_destroy(l); }
static void lock_take(lock *l) { pthread_mutex_lock(l); }
static void lock_leave(lock *l) { pthread_mutex_unlock(l); }
static void signal_new(signal_ *s) { pthread_cond_init(s, NULL); }
static void signal_free(signal_ *s) { pthread_cond_destroy(s); }
static void signal_wait(signal_ *s, lock *l) { pthread_cond_wait(s, l); }
static void signal_all(signal_ *s) { pthread_cond_broadcast(s); }
static void thread_yield(void) { sched_yield(); }
#endif

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#define PAUSE() _mm_pause()
#elif defined(__aarch64__)
#define PAUSE() __asm__ __volatile__("yield")
#else
#define PAUSE() ((void)0)
#endif

#define SPINS 2000
#define YIELDS 20
#define STACK_BYTES (8u << 20)
#define CACHE_LINE 64

/* The state of a run of tasks in one word: the step that they belong to, the next one, where they end.
 * A task is taken by counting up, so the word holds what was true at that moment, however long the
 * thread had waited before: whoever took a task may read the job until that task is done. */
typedef uint64_t state;
#define TASK_BITS 22
#define MOST_TASKS ((1 << TASK_BITS) - 1)

static state state_of(int64_t step, int64_t next, int64_t end) {
    return (state)step << 2 * TASK_BITS | (state)next << TASK_BITS | (state)end;
}
static int64_t state_step(state s) { return (int64_t)(s >> 2 * TASK_BITS); }
static int64_t state_next(state s) { return (int64_t)(s >> TASK_BITS & MOST_TASKS); }
static int64_t state_end(state s) { return (int64_t)(s & MOST_TASKS); }
#define STATE_TAKE ((state)1 << TASK_BITS)

typedef struct {
    _Atomic state state;
    char apart[2 * CACHE_LINE - sizeof(state)];
} run_of_tasks;

typedef struct {
    const kernel_set *kernels;
    const int64_t *steps;
    int64_t count;
    call call;
} job;

typedef struct {
    int threads;
    lock busy; /* one call at a time */
    lock guard;
    signal_ begin;
    thread *others;
    run_of_tasks *runs;
    int num_runs;  /* one for each thread */
    job job;       /* written, like the next one, before the runs say that there are tasks */
    int64_t tasks; /* of this step */
    char apart1[CACHE_LINE];
    _Atomic int running; /* a call */
    _Atomic int named;   /* threads that know their number */
    char apart2[CACHE_LINE];
    _Atomic int64_t done; /* tasks of this step */
    char apart3[CACHE_LINE];
    _Atomic int sleeping; /* threads */
    _Atomic int stopping;
} pool;

/* Begin the first step from `n` on that has tasks, or end the call. */
static void open_step(pool *p, int64_t n) {
    const job *j = &p->job;
    int64_t tasks = 0;
    for (; n < j->count; n++) {
        const int64_t *step = j->steps + n * STEP_WORDS;
        tasks = j->kernels->steps[step[0]].tasks(step, &j->call);
        if (tasks > 0) break;
    }
    if (n == j->count) {
        atomic_store(&p->running, 0);
        return;
    }
    p->tasks = tasks;
    atomic_store_explicit(&p->done, 0, memory_order_relaxed);
    /* The last run is never empty, so the step cannot end before all are there. And all is in one
     * order with what a thread does that goes to sleep: it sees the tasks, or is seen. */
    for (int64_t r = 0; r < p->num_runs; r++) {
        int64_t first = tasks * r / p->num_runs, end = tasks * (r + 1) / p->num_runs;
        atomic_store(&p->runs[r].state, state_of(n, first, end));
    }
    if (tasks > 1 && atomic_load(&p->sleeping)) {
        lock_take(&p->guard);
        signal_all(&p->begin);
        lock_leave(&p->guard);
    }
}

/* Take a task of a run and do it; 0 if there is none. */
static int work_on(pool *p, run_of_tasks *run) {
    state now = atomic_load_explicit(&run->state, memory_order_acquire);
    do {
        if (state_next(now) >= state_end(now)) return 0;
    } while (!atomic_compare_exchange_weak_explicit(
        &run->state, &now, now + STATE_TAKE, memory_order_acq_rel, memory_order_acquire));
    const job *j = &p->job;
    const int64_t *step = j->steps + state_step(now) * STEP_WORDS;
    int64_t tasks = p->tasks; /* as long as this one is not done */
    j->kernels->steps[step[0]].run(step, &j->call, state_next(now));
    if (atomic_fetch_add_explicit(&p->done, 1, memory_order_acq_rel) + 1 == tasks)
        open_step(p, state_step(now) + 1);
    return 1;
}

/* Take a task, of the thread's own if possible; 0 if there is none. */
static int work(pool *p, int self) {
    for (int i = 0; i < p->num_runs; i++)
        if (work_on(p, &p->runs[(self + i) % p->num_runs])) return 1;
    return 0;
}

/* A moment of waiting: give the processor away only after many of them. */
static void wait_actively(int *waits) {
    if (*waits < SPINS)
        PAUSE();
    else
        thread_yield();
    if (*waits < SPINS + YIELDS) ++*waits;
}

static int has_task(pool *p) {
    for (int i = 0; i < p->num_runs; i++) {
        state now = atomic_load(&p->runs[i].state);
        if (state_next(now) < state_end(now)) return 1;
    }
    return 0;
}

static void help(pool *p) {
    int waits = 0, self = atomic_fetch_add(&p->named, 1) + 1;
    while (!atomic_load_explicit(&p->stopping, memory_order_relaxed)) {
        if (work(p, self)) {
            waits = 0;
        } else if (waits < SPINS + YIELDS) {
            wait_actively(&waits);
        } else {
            lock_take(&p->guard);
            atomic_fetch_add(&p->sleeping, 1);
            while (!has_task(p) && !atomic_load(&p->stopping)) signal_wait(&p->begin, &p->guard);
            atomic_fetch_sub(&p->sleeping, 1);
            lock_leave(&p->guard);
            waits = 0;
        }
    }
}

#if defined(_WIN32)
static DWORD WINAPI helper(void *p) {
    help(p);
    return 0;
}
static int thread_start(thread *t, pool *p) {
    *t = CreateThread(NULL, STACK_BYTES, helper, p, 0, NULL);
    return *t != NULL;
}
static void thread_end(thread t) {
    WaitForSingleObject(t, INFINITE);
    CloseHandle(t);
}
#else
static void *helper(void *p) {
    help(p);
    return NULL;
}
static int thread_start(thread *t, pool *p) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    int failed = pthread_create(t, &attributes, helper, p);
    pthread_attr_destroy(&attributes);
    return !failed;
}
static void thread_end(thread t) { pthread_join(t, NULL); }
#endif

/* Not while a call runs. */
MYNAH_EXPORT void mynah_pool_free(pool *p) {
    lock_take(&p->guard);
    atomic_store(&p->stopping, 1);
    signal_all(&p->begin);
    lock_leave(&p->guard);
    for (int i = 0; i + 1 < p->threads; i++) thread_end(p->others[i]);
    signal_free(&p->begin);
    lock_free(&p->guard);
    lock_free(&p->busy);
    free(p->runs);
    free(p->others);
    free(p);
}

/* NULL if there is no memory, or no thread, for it. */
MYNAH_EXPORT pool *mynah_pool_new(int32_t threads) {
    if (threads < 1) return NULL;
    pool *p = calloc(1, sizeof *p);
    thread *others = calloc((size_t)threads, sizeof *others);
    run_of_tasks *runs = calloc((size_t)threads, sizeof *runs); /* all of them empty */
    if (!p || !others || !runs) {
        free(p);
        free(others);
        free(runs);
        return NULL;
    }
    p->others = others;
    p->threads = 1;
    p->runs = runs;
    p->num_runs = threads;
    lock_new(&p->busy);
    lock_new(&p->guard);
    signal_new(&p->begin);
    for (int i = 0; i + 1 < threads; i++, p->threads++)
        if (!thread_start(&others[i], p)) {
            mynah_pool_free(p);
            return NULL;
        }
    return p;
}

/* Runs `count` steps; several callers take turns. */
MYNAH_EXPORT void mynah_run(pool *p, const kernel_set *kernels, const int64_t *steps, int64_t count,
                            const int64_t *slots) {
    lock_take(&p->busy);
    p->job = (job){kernels, steps, count, {slots, p->threads}};
    atomic_store(&p->running, 1);
    open_step(p, 0);
    int waits = 0;
    while (atomic_load_explicit(&p->running, memory_order_acquire)) {
        if (work(p, 0))
            waits = 0;
        else
            wait_actively(&waits);
    }
    lock_leave(&p->busy);
}
