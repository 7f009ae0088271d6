/* peak.c - how many floating-point operations a second the cores can do at best: fused multiply-adds in f32 on
 * registers alone, on all threads at once, with the widest vectors the processor has.
 *
 * usage: peak [--threads 2] [--seconds 0.5]
 * Prints one JSON line: {"vectors": "avx512", "threads": 2, "gflops": 251.3}; gflops is the best of five runs. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

/* Twelve independent chains cover the latency (4 cycles) of two FMA units and fit in 16 registers. */
#define CHAINS(X) \
    X(0) \
    X(1) \
    X(2) \
    X(3) \
    X(4) \
    X(5) \
    X(6) \
    X(7) \
    X(8) \
    X(9) \
    X(10) \
    X(11)
enum { CHAIN_COUNT = 12 };

#ifdef __x86_64__
__attribute__((target("avx512f"))) static float run_avx512(long rounds)
{
    __m512 a = _mm512_set1_ps(0.999999f), b = _mm512_set1_ps(1e-6f);
#define X(i) __m512 x##i = _mm512_set1_ps(1.0f + i);
    CHAINS(X)
#undef X
    for (long r = 0; r < rounds; r++) {
#define X(i) x##i = _mm512_fmadd_ps(x##i, a, b);
        CHAINS(X)
#undef X
    }
    __m512 sum = _mm512_setzero_ps();
#define X(i) sum = _mm512_add_ps(sum, x##i);
    CHAINS(X)
#undef X
    return _mm512_cvtss_f32(sum);
}

__attribute__((target("avx2,fma"))) static float run_avx2(long rounds)
{
    __m256 a = _mm256_set1_ps(0.999999f), b = _mm256_set1_ps(1e-6f);
#define X(i) __m256 x##i = _mm256_set1_ps(1.0f + i);
    CHAINS(X)
#undef X
    for (long r = 0; r < rounds; r++) {
#define X(i) x##i = _mm256_fmadd_ps(x##i, a, b);
        CHAINS(X)
#undef X
    }
    __m256 sum = _mm256_setzero_ps();
#define X(i) sum = _mm256_add_ps(sum, x##i);
    CHAINS(X)
#undef X
    return _mm256_cvtss_f32(sum);
}
#endif

/* Any other processor: four lanes, a multiplication and an addition. */
static float run_plain(long rounds)
{
    typedef float lanes __attribute__((vector_size(16)));
    lanes a = { 0.999999f, 0.999999f, 0.999999f, 0.999999f }, b = { 1e-6f, 1e-6f, 1e-6f, 1e-6f };
#define X(i) lanes x##i = a + i;
    CHAINS(X)
#undef X
    for (long r = 0; r < rounds; r++) {
#define X(i) x##i = x##i * a + b;
        CHAINS(X)
#undef X
    }
    lanes sum = b;
#define X(i) sum += x##i;
    CHAINS(X)
#undef X
    return sum[0];
}

struct variant {
    const char *name;
    float (*run)(long rounds);
    int lanes;
};

static struct variant widest(void)
{
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) return (struct variant){ "avx512", run_avx512, 16 };
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return (struct variant){ "avx2", run_avx2, 8 };
#endif
    return (struct variant){ "plain", run_plain, 4 };
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds that `rounds` rounds take when all threads do them at once. */
static double measure(struct variant v, long rounds, int threads, volatile float *sink)
{
    double start = 0;
#pragma omp parallel num_threads(threads)
    {
#pragma omp barrier
#pragma omp master
        start = now();
#pragma omp barrier
        float got = v.run(rounds);
#pragma omp critical
        *sink += got;
    }
    return now() - start;
}

int main(int argc, char **argv)
{
    int threads = 2;
    double seconds = 0.5;
    for (int i = 1; i < argc; i++) {
        char *end = NULL;
        if (!strcmp(argv[i], "--threads") && i + 1 < argc)
            threads = (int)strtol(argv[++i], &end, 10);
        else if (!strcmp(argv[i], "--seconds") && i + 1 < argc)
            seconds = strtod(argv[++i], &end);
        if (!end || *end || threads < 1 || threads > 1024 || !(seconds > 0 && seconds < 60)) {
            fprintf(stderr, "usage: peak [--threads 2] [--seconds 0.5]\n");
            return 2;
        }
    }
    struct variant v = widest();
    volatile float sink = 0;
    long rounds = 1000;
    while (measure(v, rounds, threads, &sink) < seconds / 10) rounds *= 2;
    double best = 0;
    for (int i = 0; i < 5; i++) {
        double flops = 2.0 * v.lanes * CHAIN_COUNT * (double)rounds * threads;
        double rate = flops / measure(v, rounds, threads, &sink);
        if (rate > best) best = rate;
    }
    printf("{\"vectors\": \"%s\", \"threads\": %d, \"gflops\": %.1f}\n", v.name, threads, best / 1e9);
    return 0;
}
