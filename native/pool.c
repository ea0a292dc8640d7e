/* Threads that run programs together. No thread waits for another one to arrive, only for tasks that
 * were begun: one that the system lets wait, or that still wakes up, costs nothing but its help. Who
 * finds no task waits actively for a moment, because most steps take microseconds, and then sleeps.
 *
 * Several callers may run a program each, on lanes of their own. A caller works on its own program
 * only, and takes a helper's place: callers and helpers that work are never more than the pool's
 * threads, so none of them waits for a processor while it holds a task that others wait for. A step
 * that is bound by memory (a language model's) costs less beside one that is bound by arithmetic (a
 * flow's) than both threads need for one after the other.
 *
 * The tasks of a step are dealt out as runs of neighbours, one for each thread, which helps the others
 * when it is through: a processor reads a long piece of memory faster than many that lie apart
 * (measured: 20 % less time for a matrix times one row). */

#define _POSIX_C_SOURCE 200112L /* for the monotonic clock */

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
static int64_t now_us(void) {
    LARGE_INTEGER count, second;
    QueryPerformanceCounter(&count);
    QueryPerformanceFrequency(&second);
    return (int64_t)(count.QuadPart * 1e6 / second.QuadPart);
}
#else
#include <pthread.h>
#include <sched.h>
#include <time.h>
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
static int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}
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
/* A caller among others that pauses comes back soon: for so long nobody takes its place. A helper that
 * is on a processor when the caller comes back would be stopped in the midst of a task. */
#define LINGER_US 3000

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

/* One call. */
typedef struct {
    run_of_tasks *runs; /* one for each thread */
    job job;            /* written, like the next one, before the runs say that there are tasks */
    int64_t tasks;      /* of this step */
    char apart1[CACHE_LINE];
    int taken;           /* by a caller; under the guard */
    _Atomic int running; /* its call */
    char apart2[CACHE_LINE];
    _Atomic int64_t done; /* tasks of this step */
    char apart3[CACHE_LINE];
} lane;

typedef struct {
    signal_ begin;
    _Atomic int asleep;
} sleeper;

typedef struct {
    int threads; /* of a pool: helpers, and one caller */
    int lanes;
    int started; /* helpers */
    lock guard;
    signal_ freed; /* a lane */
    thread *others;
    sleeper *sleepers; /* by the number of the helper */
    lane *calls;
    char apart1[CACHE_LINE];
    _Atomic int callers; /* calls that run */
    _Atomic int named;   /* threads that know their number */
    _Atomic int stopping;
    _Atomic int64_t lingers_until; /* microseconds */
    char apart2[CACHE_LINE];
} pool;

/* Helpers 1 .. places may work. */
static int places(pool *p) {
    int callers = atomic_load(&p->callers);
    if (callers < p->threads && now_us() < atomic_load(&p->lingers_until)) callers++;
    return p->threads - (callers > 1 ? callers : 1);
}

/* Wake who may help. */
static void wake(pool *p) {
    for (int i = p->threads - 1; i > 0; i--)
        if (atomic_load(&p->sleepers[i].asleep) && i <= places(p)) {
            lock_take(&p->guard);
            signal_all(&p->sleepers[i].begin);
            lock_leave(&p->guard);
        }
}

/* Begin the first step from `n` on that has tasks, or end the call. */
static void open_step(pool *p, lane *l, int64_t n) {
    const job *j = &l->job;
    int64_t tasks = 0;
    for (; n < j->count; n++) {
        const int64_t *step = j->steps + n * STEP_WORDS;
        tasks = j->kernels->steps[step[0]].tasks(step, &j->call);
        if (tasks > 0) break;
    }
    if (n == j->count) {
        atomic_store(&l->running, 0);
        return;
    }
    l->tasks = tasks;
    atomic_store_explicit(&l->done, 0, memory_order_relaxed);
    /* The last run is never empty, so the step cannot end before all are there. And all is in one
     * order with what a thread does that goes to sleep: it sees the tasks, or is seen. */
    for (int64_t r = 0; r < p->threads; r++) {
        int64_t first = tasks * r / p->threads, end = tasks * (r + 1) / p->threads;
        atomic_store(&l->runs[r].state, state_of(n, first, end));
    }
    if (tasks > 1) wake(p);
}

/* Take a task of a run and do it; 0 if there is none. */
static int work_on(pool *p, lane *l, run_of_tasks *run) {
    state now = atomic_load_explicit(&run->state, memory_order_acquire);
    do {
        if (state_next(now) >= state_end(now)) return 0;
    } while (!atomic_compare_exchange_weak_explicit(
        &run->state, &now, now + STATE_TAKE, memory_order_acq_rel, memory_order_acquire));
    const job *j = &l->job;
    const int64_t *step = j->steps + state_step(now) * STEP_WORDS;
    int64_t tasks = l->tasks; /* as long as this one is not done */
    j->kernels->steps[step[0]].run(step, &j->call, state_next(now));
    if (atomic_fetch_add_explicit(&l->done, 1, memory_order_acq_rel) + 1 == tasks)
        open_step(p, l, state_step(now) + 1);
    return 1;
}

/* Take a task, of the thread's own if possible; 0 if there is none. */
static int work(pool *p, lane *l, int self) {
    for (int i = 0; i < p->threads; i++)
        if (work_on(p, l, &l->runs[(self + i) % p->threads])) return 1;
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
    for (int i = 0; i < p->lanes * p->threads; i++) {
        state now = atomic_load(&p->calls[i / p->threads].runs[i % p->threads].state);
        if (state_next(now) < state_end(now)) return 1;
    }
    return 0;
}

static void sleep_until_needed(pool *p, int self) {
    sleeper *own = &p->sleepers[self];
    lock_take(&p->guard);
    atomic_store(&own->asleep, 1);
    while (!(self <= places(p) && has_task(p)) && !atomic_load(&p->stopping))
        signal_wait(&own->begin, &p->guard);
    atomic_store(&own->asleep, 0);
    lock_leave(&p->guard);
}

static void help(pool *p) {
    int waits = 0, at = 0, self = atomic_fetch_add(&p->named, 1) + 1;
    while (!atomic_load_explicit(&p->stopping, memory_order_relaxed)) {
        /* Without a place it stops after the task it has; with one it stays with a call. */
        int may = atomic_load_explicit(&p->callers, memory_order_relaxed) + self <= p->threads;
        int found = 0;
        for (int i = 0; may && !found && i < p->lanes; i++) {
            int next = (at + i) % p->lanes;
            if ((found = work(p, &p->calls[next], self))) at = next;
        }
        if (found) {
            waits = 0;
        } else if (may && waits < SPINS + YIELDS) {
            wait_actively(&waits);
        } else {
            sleep_until_needed(p, self);
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

static void pool_discard(pool *p) {
    for (int i = 0; p->calls && i < p->lanes; i++) free(p->calls[i].runs);
    for (int i = 0; p->sleepers && i < p->threads; i++) signal_free(&p->sleepers[i].begin);
    signal_free(&p->freed);
    lock_free(&p->guard);
    free(p->calls);
    free(p->sleepers);
    free(p->others);
    free(p);
}

/* Not while a call runs. */
MYNAH_EXPORT void mynah_pool_free(pool *p) {
    lock_take(&p->guard);
    atomic_store(&p->stopping, 1);
    for (int i = 0; i < p->threads; i++) signal_all(&p->sleepers[i].begin);
    lock_leave(&p->guard);
    for (int i = 0; i < p->started; i++) thread_end(p->others[i]);
    pool_discard(p);
}

/* A pool of `threads` threads, the caller's own included, for up to `lanes` calls at the same time.
 * NULL if there is no memory, or no thread, for it. */
MYNAH_EXPORT pool *mynah_pool_new(int32_t threads, int32_t lanes) {
    if (threads < 1 || lanes < 1) return NULL;
    pool *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->threads = threads;
    p->lanes = lanes;
    lock_new(&p->guard);
    signal_new(&p->freed);
    p->others = calloc((size_t)threads, sizeof *p->others);
    p->calls = calloc((size_t)lanes, sizeof *p->calls);
    p->sleepers = calloc((size_t)threads, sizeof *p->sleepers);
    for (int i = 0; p->sleepers && i < threads; i++) signal_new(&p->sleepers[i].begin);
    int complete = p->others && p->calls && p->sleepers;
    for (int i = 0; complete && i < lanes; i++) { /* all runs of tasks are empty */
        p->calls[i].runs = calloc((size_t)threads, sizeof *p->calls[i].runs);
        complete = p->calls[i].runs != NULL;
    }
    if (!complete) {
        pool_discard(p);
        return NULL;
    }
    for (; p->started + 1 < threads; p->started++)
        if (!thread_start(&p->others[p->started], p)) {
            mynah_pool_free(p);
            return NULL;
        }
    return p;
}

/* A lane that no other caller has; waits for one if there is none. */
static lane *take_lane(pool *p) {
    lock_take(&p->guard);
    for (;;) {
        for (int i = 0; i < p->lanes; i++)
            if (!p->calls[i].taken) {
                p->calls[i].taken = 1;
                lock_leave(&p->guard);
                return &p->calls[i];
            }
        signal_wait(&p->freed, &p->guard);
    }
}

static void give_lane(pool *p, lane *l) {
    lock_take(&p->guard);
    l->taken = 0;
    signal_all(&p->freed);
    lock_leave(&p->guard);
}

/* Runs `count` steps; more callers than lanes take turns. */
MYNAH_EXPORT void mynah_run(pool *p, const kernel_set *kernels, const int64_t *steps, int64_t count,
                            const int64_t *slots) {
    lane *l = take_lane(p);
    atomic_fetch_add(&p->callers, 1);
    l->job = (job){kernels, steps, count, {slots, p->threads}};
    atomic_store(&l->running, 1);
    open_step(p, l, 0);
    int waits = 0;
    while (atomic_load_explicit(&l->running, memory_order_acquire)) {
        if (work(p, l, 0))
            waits = 0;
        else
            wait_actively(&waits);
    }
    if (atomic_fetch_sub(&p->callers, 1) > 1)
        atomic_store(&p->lingers_until, now_us() + LINGER_US);
    give_lane(p, l);
}
