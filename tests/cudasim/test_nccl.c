/* test_nccl.c - the simulated NCCL: collectives of ranks that are devices of one thread, threads, or processes, held
 * against sums in plain loops; what the manual forbids is named; a peer that is missing, differs or dies is found. */
#define CALLS(X) \
    X(ncclGetUniqueId) \
    X(ncclCommInitRank) \
    X(ncclCommInitRankConfig) \
    X(ncclCommInitAll) \
    X(ncclCommDestroy) \
    X(ncclCommAbort) \
    X(ncclCommGetAsyncError) \
    X(ncclCommCount) \
    X(ncclCommUserRank) \
    X(ncclCommCuDevice) \
    X(ncclGetLastError) \
    X(ncclGroupStart) \
    X(ncclGroupEnd) \
    X(ncclAllReduce) \
    X(ncclBroadcast) \
    X(ncclReduce) \
    X(ncclReduceScatter) \
    X(ncclAllGather) \
    X(ncclSend) \
    X(ncclRecv) \
    X(cudasim_nccl_live)
#if __has_include(<nccl.h>)
#include <nccl.h>
extern size_t cudasim_nccl_live(void);
#endif
#include "simulated.h"

#if SIMULATED && __has_include(<nccl.h>)
#include "../../core/half.h"
#include <pthread.h>
#include <stdbool.h>
#include <sys/wait.h>

enum { RANKS = 3, BIG = 700001 }; /* elements: more than one chunk of either kind */

struct rank {
    ncclComm_t comm;
    cudaStream_t stream;
    float *in, *out;
};

/* Values that every rank can name: exact sums and products. */
static float value(int rank, size_t i) { return (float)((int)((i * 7 + (size_t)rank * 3) % 11) - 5); }

static void open_rank(struct rank *r, int rank, size_t n)
{
    float *host = malloc(n * RANKS * sizeof *host);
    for (size_t i = 0; i < n * RANKS; i++) host[i] = value(rank, i);
    r->in = device_copy(host, n * RANKS * sizeof *host);
    r->out = device_take(n * RANKS * sizeof *host);
    assert_int_equal(calls.cudaStreamCreate(&r->stream), 0);
    free(host);
}
static void open_all(struct rank *r, size_t n)
{
    ncclComm_t comm[RANKS];
    assert_int_equal(calls.ncclCommInitAll(comm, RANKS, NULL), 0);
    for (int k = 0; k < RANKS; k++) {
        calls.cudaSetDevice(k);
        open_rank(&r[k], k, n);
        r[k].comm = comm[k];
    }
}
static void close_rank(struct rank *r)
{
    assert_int_equal(calls.cudaStreamSynchronize(r->stream), 0);
    assert_int_equal(calls.ncclCommDestroy(r->comm), 0);
    calls.cudaStreamDestroy(r->stream);
    calls.cudaFree(r->in);
    calls.cudaFree(r->out);
}
static void close_all(struct rank *r)
{
    expect_no_finding();
    for (int k = 0; k < RANKS; k++) close_rank(&r[k]);
    assert_int_equal(calls.cudasim_nccl_live(), 0);
    calls.cudaSetDevice(0);
}

static void expect_out(const struct rank *r, size_t n, float (*want)(int rank, size_t i), int rank)
{
    float *got = malloc(n * sizeof *got);
    calls.cudaStreamSynchronize(r->stream);
    host_copy(got, r->out, n * sizeof *got);
    for (size_t i = 0; i < n; i++)
        if (got[i] != want(rank, i))
            fail_msg("rank %d element %zu: %g; expected %g", rank, i, (double)got[i], (double)want(rank, i));
    free(got);
}

/* ---- what is expected ------------------------------------------------------------------------------------------ */

static size_t count_now; /* elements of the operation under test */
static float sum_of(int rank, size_t i)
{
    (void)rank;
    return value(0, i) + value(1, i) + value(2, i);
}
static float max_of(int rank, size_t i)
{
    (void)rank;
    float m = value(0, i);
    for (int k = 1; k < RANKS; k++) m = value(k, i) > m ? value(k, i) : m;
    return m;
}
static float product_of(int rank, size_t i)
{
    (void)rank;
    return value(0, i) * value(1, i) * value(2, i);
}
static float of_rank_1(int rank, size_t i)
{
    (void)rank;
    return value(1, i);
}
static float part_of_sum(int rank, size_t i) { return sum_of(rank, (size_t)rank * count_now + i); }
static float gathered(int rank, size_t i)
{
    (void)rank;
    return value((int)(i / count_now), i % count_now);
}
static float of_left(int rank, size_t i) { return value((rank + RANKS - 1) % RANKS, i); }

#define GROUP(...) \
    do { \
        assert_int_equal(calls.ncclGroupStart(), 0); \
        for (int k = 0; k < RANKS; k++) assert_int_equal(__VA_ARGS__, 0); \
        assert_int_equal(calls.ncclGroupEnd(), 0); \
    } while (0)
#define EVERY_RANK(n, want) \
    for (int k = 0; k < RANKS; k++) expect_out(&r[k], n, want, k)

static void collectives(void **state)
{
    (void)state;
    static const size_t sizes[] = { 1, 33, BIG };
    for (int s = 0; s < 3; s++) {
        struct rank r[RANKS];
        size_t n = count_now = sizes[s];
        open_all(r, n);
        GROUP(calls.ncclAllReduce(r[k].in, r[k].out, n, ncclFloat, ncclSum, r[k].comm, r[k].stream));
        EVERY_RANK(n, sum_of);
        GROUP(calls.ncclAllReduce(r[k].in, r[k].out, n, ncclFloat, ncclMax, r[k].comm, r[k].stream));
        EVERY_RANK(n, max_of);
        GROUP(calls.ncclAllReduce(r[k].in, r[k].out, n, ncclFloat, ncclProd, r[k].comm, r[k].stream));
        EVERY_RANK(n, product_of);
        GROUP(calls.ncclBroadcast(r[k].in, r[k].out, n, ncclFloat, 1, r[k].comm, r[k].stream));
        EVERY_RANK(n, of_rank_1);
        GROUP(calls.ncclReduceScatter(r[k].in, r[k].out, n, ncclFloat, ncclSum, r[k].comm, r[k].stream));
        EVERY_RANK(n, part_of_sum);
        GROUP(calls.ncclAllGather(r[k].in, r[k].out, n, ncclFloat, r[k].comm, r[k].stream));
        EVERY_RANK(n * RANKS, gathered);
        GROUP(calls.ncclReduce(r[k].in, r[k].out, n, ncclFloat, ncclSum, 2, r[k].comm, r[k].stream));
        expect_out(&r[2], n, sum_of, 2);
        expect_out(&r[0], n * RANKS, gathered, 0); /* not the root: left alone */
        /* nothing at all, and in place */
        GROUP(calls.ncclAllReduce(r[k].in, r[k].out, 0, ncclFloat, ncclSum, r[k].comm, r[k].stream));
        for (int k = 0; k < RANKS; k++) calls.cudaMemcpy(r[k].out, r[k].in, n * 4, cudaMemcpyDeviceToDevice);
        GROUP(calls.ncclAllReduce(r[k].out, r[k].out, n, ncclFloat, ncclSum, r[k].comm, r[k].stream));
        EVERY_RANK(n, sum_of);
        for (int k = 0; k < RANKS; k++)
            calls.cudaMemcpy(r[k].out + (size_t)k * n, r[k].in, n * 4, cudaMemcpyDeviceToDevice);
        GROUP(calls.ncclAllGather(r[k].out + (size_t)k * n, r[k].out, n, ncclFloat, r[k].comm, r[k].stream));
        EVERY_RANK(n * RANKS, gathered);
        close_all(r);
    }
}

/* Sums in other types: integers wrap nowhere here, averages are of the sum, 16-bit floats are summed in f32. */
static void types(void **state)
{
    (void)state;
    struct rank r[RANKS];
    open_all(r, 8);
    int32_t ints[RANKS];
    uint16_t halves[RANKS];
    for (int k = 0; k < RANKS; k++) {
        int32_t v = k * 100 - 50;
        uint16_t h = qn__bf16_of_f32((float)(k == 0 ? 256 : 1)); /* 256 + 1 is 256 in bf16, 256 + 1 + 1 is 258 */
        calls.cudaSetDevice(k);
        calls.cudaMemcpy(r[k].in, &v, 4, cudaMemcpyHostToDevice);
        calls.cudaMemcpy(r[k].in + 1, &h, 2, cudaMemcpyHostToDevice);
    }
    GROUP(calls.ncclAllReduce(r[k].in, r[k].out, 1, ncclInt32, ncclSum, r[k].comm, r[k].stream));
    GROUP(calls.ncclAllReduce(r[k].in + 1, r[k].out + 1, 1, ncclBfloat16, ncclSum, r[k].comm, r[k].stream));
    GROUP(calls.ncclAllReduce(r[k].in + 4, r[k].out + 4, 1, ncclFloat, ncclAvg, r[k].comm, r[k].stream));
    for (int k = 0; k < RANKS; k++) {
        float average;
        calls.cudaStreamSynchronize(r[k].stream);
        host_copy(&ints[k], r[k].out, 4);
        host_copy(&halves[k], r[k].out + 1, 2);
        host_copy(&average, r[k].out + 4, 4);
        assert_int_equal(ints[k], 150);
        assert_true(qn__f32_of_bf16(halves[k]) == 258.0f);
        assert_true(average == sum_of(0, 4) / 3);
    }
    close_all(r);
}

/* Each rank to its right neighbour, all at once: only a group can. */
static void rings(void **state)
{
    (void)state;
    struct rank r[RANKS];
    open_all(r, BIG);
    assert_int_equal(calls.ncclGroupStart(), 0);
    for (int k = 0; k < RANKS; k++) {
        assert_int_equal(calls.ncclSend(r[k].in, BIG, ncclFloat, (k + 1) % RANKS, r[k].comm, r[k].stream), 0);
        assert_int_equal(calls.ncclRecv(r[k].out, BIG, ncclFloat, (k + RANKS - 1) % RANKS, r[k].comm, r[k].stream), 0);
    }
    assert_int_equal(calls.ncclGroupEnd(), 0);
    EVERY_RANK(BIG, of_left);
    close_all(r);
}

/* ---- threads ----------------------------------------------------------------------------------------------------- */

struct thread {
    ncclUniqueId id;
    int rank;
    bool good;
};

static void *in_thread(void *p)
{
    struct thread *t = p;
    struct rank r;
    int ranks = 0, rank = -1, device = -1;
    calls.cudaSetDevice(t->rank);
    if (calls.ncclCommInitRank(&r.comm, RANKS, t->id, t->rank)) return NULL;
    open_rank(&r, t->rank, 100);
    calls.ncclCommCount(r.comm, &ranks);
    calls.ncclCommUserRank(r.comm, &rank);
    calls.ncclCommCuDevice(r.comm, &device);
    t->good = ranks == RANKS && rank == t->rank && device == t->rank;
    for (int i = 0; i < 5 && t->good; i++)
        t->good = !calls.ncclAllReduce(r.in, r.out, 100, ncclFloat, ncclSum, r.comm, r.stream);
    expect_out(&r, 100, sum_of, t->rank);
    close_rank(&r);
    return NULL;
}

static void threads(void **state)
{
    (void)state;
    pthread_t thread[RANKS];
    struct thread t[RANKS];
    ncclUniqueId id;
    assert_int_equal(calls.ncclGetUniqueId(&id), 0);
    for (int k = 0; k < RANKS; k++) {
        t[k] = (struct thread){ id, k, false };
        assert_int_equal(pthread_create(&thread[k], NULL, in_thread, &t[k]), 0);
    }
    for (int k = 0; k < RANKS; k++) {
        pthread_join(thread[k], NULL);
        assert_true(t[k].good);
    }
    expect_no_finding();
}

/* ---- processes
 * ----------------------------------------------------------------------------------------------------- */

/* Rank 1 waits on the host for a word of rank 0, which gives it only when its own collective is done: the streams of
 * rank 1 must go on meanwhile, as a device's do. 0: good. */
static int in_process(ncclUniqueId id, int rank, int pipe_in, int pipe_out)
{
    struct rank r;
    char word = 0;
    if (calls.ncclCommInitRank(&r.comm, RANKS, id, rank)) return 2;
    open_rank(&r, rank, BIG);
    count_now = BIG;
    if (calls.ncclAllReduce(r.in, r.out, BIG, ncclFloat, ncclSum, r.comm, r.stream)) return 3;
    if (rank == 1 && read(pipe_in, &word, 1) != 1) return 4;
    expect_out(&r, BIG, sum_of, rank);
    if (rank == 0 && write(pipe_out, "x", 1) != 1) return 5;
    if (calls.ncclReduceScatter(r.in, r.out, BIG, ncclFloat, ncclSum, r.comm, r.stream)) return 6;
    expect_out(&r, BIG, part_of_sum, rank);
    close_rank(&r);
    return calls.cudasim_findings() ? 7 : 0;
}

/* Rank 0 dies before its collective; the others see it, give up, and their streams are free. */
static int with_a_death(ncclUniqueId id, int rank)
{
    struct rank r;
    ncclResult_t answer = ncclSuccess;
    if (calls.ncclCommInitRank(&r.comm, RANKS, id, rank)) return 2;
    if (rank == 0) return 0;
    open_rank(&r, rank, 10);
    if (calls.ncclAllReduce(r.in, r.out, 10, ncclFloat, ncclSum, r.comm, r.stream)) return 3;
    for (int i = 0; i < 5000 && answer == ncclSuccess; i++) {
        usleep(1000);
        if (calls.ncclCommGetAsyncError(r.comm, &answer)) return 4;
    }
    if (answer != ncclRemoteError || !strstr(calls.ncclGetLastError(r.comm), "is gone")) return 5;
    if (calls.ncclCommAbort(r.comm)) return 6;
    return calls.cudaStreamSynchronize(r.stream) ? 7 : 0;
}

static void run_processes(bool death)
{
    ncclUniqueId id;
    int fd[2];
    pid_t pid[RANKS];
    assert_int_equal(calls.ncclGetUniqueId(&id), 0);
    assert_int_equal(pipe(fd), 0);
    for (int k = 0; k < RANKS; k++) {
        pid[k] = fork();
        assert_true(pid[k] >= 0);
        if (pid[k] == 0) _exit(death ? with_a_death(id, k) : in_process(id, k, fd[0], fd[1]));
    }
    for (int k = 0; k < RANKS; k++) {
        /* the dead one is reaped at once, so that its number means nobody */
        int status = 0;
        assert_int_equal(waitpid(pid[k], &status, 0), pid[k]);
        if (status) fail_msg("rank %d ended with %x", k, (unsigned)status);
    }
    close(fd[0]), close(fd[1]);
}
static void processes(void **state)
{
    (void)state;
    run_processes(false);
}
static void death(void **state)
{
    (void)state;
    run_processes(true);
}

/* ---- what goes wrong
 * --------------------------------------------------------------------------------------------------- */

static void break_all(struct rank *r)
{
    for (int k = 0; k < RANKS; k++) assert_int_equal(calls.ncclCommAbort(r[k].comm), 0);
    for (int k = 0; k < RANKS; k++) {
        calls.cudaSetDevice(k);
        calls.cudaStreamSynchronize(r[k].stream);
        calls.cudaStreamDestroy(r[k].stream);
        calls.cudaFree(r[k].in);
        calls.cudaFree(r[k].out);
    }
    calls.cudasim_forget();
    calls.cudaSetDevice(0);
    calls.cudaGetLastError();
    assert_int_equal(calls.cudasim_nccl_live(), 0);
}

static void mismatch(void **state)
{
    (void)state;
    struct rank r[RANKS];
    ncclResult_t answer;
    open_all(r, 8);
    assert_int_equal(calls.ncclGroupStart(), 0);
    for (int k = 0; k < RANKS; k++)
        calls.ncclAllReduce(r[k].in, r[k].out, k == 2 ? 7 : 8, ncclFloat, ncclSum, r[k].comm, r[k].stream);
    assert_int_equal(calls.ncclGroupEnd(), 0);
    assert_int_not_equal(calls.cudaStreamSynchronize(r[0].stream), cudaSuccess);
    assert_true(calls.cudasim_findings() >= 1);
    assert_non_null(strstr(calls.cudasim_finding(0), "ncclAllReduce of 8 f32, sum"));
    assert_non_null(strstr(calls.cudasim_finding(0), "ncclAllReduce of 7 f32, sum"));
    int failed = 0;
    for (int k = 0; k < RANKS; k++) {
        assert_int_equal(calls.ncclCommGetAsyncError(r[k].comm, &answer), 0);
        failed += answer == ncclInvalidUsage;
    }
    assert_true(failed >= 1);
    break_all(r);
}

/* A peer that never comes: said to be a deadlock instead of waiting for ever. */
static void missing_peer(void **state)
{
    (void)state;
    struct rank r[RANKS];
    open_all(r, 8);
    assert_int_equal(calls.ncclGroupStart(), 0);
    for (int k = 0; k < 2; k++) calls.ncclAllReduce(r[k].in, r[k].out, 8, ncclFloat, ncclSum, r[k].comm, r[k].stream);
    assert_int_equal(calls.ncclGroupEnd(), 0);
    assert_int_not_equal(calls.cudaStreamSynchronize(r[0].stream), cudaSuccess);
    expect_finding("deadlock: ncclAllReduce");
    break_all(r);
}

static void refusals(void **state)
{
    (void)state;
    struct rank r[RANKS];
    float host[8] = { 0 };
    open_all(r, 8);
    ncclComm_t c = r[0].comm;
    cudaStream_t s = r[0].stream;
    const ncclResult_t bad = ncclInvalidArgument;
    calls.cudaSetDevice(0);
#define ALL(in, out, n, type, op, comm, stream) calls.ncclAllReduce(in, out, n, type, op, comm, stream)
    assert_int_equal(ALL(r[0].in, r[0].out, 8, (ncclDataType_t)11, ncclSum, c, s), bad);
    assert_int_equal(ALL(r[0].in, r[0].out, 8, ncclFloat, (ncclRedOp_t)5, c, s), bad);
    assert_int_equal(ALL(r[0].in, r[0].out, 8, ncclFloat, ncclSum, NULL, s), bad);
    assert_int_equal(ALL(r[0].in, r[0].out, 8, ncclFloat, ncclSum, c, r[1].stream), bad);
    assert_int_equal(ALL((char *)r[0].in + 2, r[0].out, 7, ncclFloat, ncclSum, c, s), bad);
    assert_int_equal(calls.ncclBroadcast(r[0].in, r[0].out, 8, ncclFloat, RANKS, c, s), bad);
    assert_int_equal(calls.ncclSend(r[0].in, 8, ncclFloat, -1, c, s), bad);
    assert_int_equal(calls.ncclGroupEnd(), ncclInvalidUsage);
    expect_no_finding();
    assert_int_equal(ALL(host, r[0].out, 8, ncclFloat, ncclSum, c, s), bad);
    expect_finding("ncclAllReduce");
    assert_int_equal(ALL(r[0].in, r[1].out, 8, ncclFloat, ncclSum, c, s), bad);
    expect_finding("ncclAllReduce"); /* the memory of another device */
    assert_int_equal(ALL(r[0].in, r[0].in + 4, 8, ncclFloat, ncclSum, c, s), bad);
    expect_finding("overlap");
    assert_int_equal(ALL(r[0].in, r[0].out, 8, ncclFloat, ncclSum, c, s), ncclInvalidUsage);
    expect_finding("ncclGroupStart");
#undef ALL
    close_all(r);

    ncclUniqueId id, wrong = { { 0 } };
    ncclComm_t comm = NULL;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    calls.ncclGetUniqueId(&id);
    assert_int_equal(calls.ncclCommInitRank(&comm, 2, id, 2), bad);
    assert_int_equal(calls.ncclCommInitRank(&comm, 1, wrong, 0), bad);
    assert_int_equal(calls.ncclCommInitAll(&comm, 1, (const int[]){ 77 }), ncclUnhandledCudaError);
    config.magic = 0;
    assert_int_equal(calls.ncclCommInitRankConfig(&comm, 1, id, 0, &config), bad);
    assert_int_equal(calls.ncclCommInitRank(&comm, 2, id, 0), ncclSystemError); /* nobody else comes */
    assert_null(comm);
    assert_int_equal(calls.cudasim_nccl_live(), 0);
}

/* A communicator that does not block says "in progress", and nothing else may be asked of it until that is over. */
static void without_blocking(void **state)
{
    (void)state;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    struct rank r[2];
    ncclUniqueId id;
    ncclResult_t answer;
    config.blocking = 0;
    calls.ncclGetUniqueId(&id);
    for (int k = 0; k < 2; k++) {
        calls.cudaSetDevice(k);
        open_rank(&r[k], k, 8);
        assert_int_equal(calls.ncclCommInitRankConfig(&r[k].comm, 2, id, k, &config), ncclInProgress);
        assert_int_equal(calls.ncclCommGetAsyncError(r[0].comm, &answer), 0);
        assert_int_equal(answer, k == 0 ? ncclInProgress : ncclSuccess);
    }
    assert_int_equal(calls.ncclAllReduce(r[1].in, r[1].out, 8, ncclFloat, ncclSum, r[1].comm, r[1].stream),
                     ncclInvalidUsage);
    assert_int_equal(calls.ncclCommGetAsyncError(r[1].comm, &answer), 0);
    assert_int_equal(answer, ncclSuccess);
    assert_int_equal(calls.ncclGroupStart(), 0);
    for (int k = 0; k < 2; k++)
        assert_int_equal(calls.ncclAllReduce(r[k].in, r[k].out, 8, ncclFloat, ncclMax, r[k].comm, r[k].stream), 0);
    assert_int_equal(calls.ncclGroupEnd(), ncclInProgress);
    for (int k = 0; k < 2; k++) {
        assert_int_equal(calls.ncclCommGetAsyncError(r[k].comm, &answer), 0);
        assert_int_equal(answer, ncclSuccess);
        close_rank(&r[k]);
    }
    expect_no_finding();
    calls.cudaSetDevice(0);
}

static void failing_calls(void **state)
{
    (void)state;
    struct rank r[RANKS];
    ncclUniqueId id;
    open_all(r, 8);
    assert_true(calls.cudasim_fail("ncclAllReduce:2"));
    assert_int_equal(calls.ncclGroupStart(), 0);
    for (int k = 0; k < RANKS; k++)
        assert_int_equal(calls.ncclAllReduce(r[k].in, r[k].out, 8, ncclFloat, ncclSum, r[k].comm, r[k].stream),
                         k == 1 ? ncclUnhandledCudaError : ncclSuccess);
    assert_int_equal(calls.ncclGroupEnd(), ncclUnhandledCudaError);
    assert_true(calls.cudasim_fail("ncclGetUniqueId:1:forever:2"));
    assert_int_equal(calls.ncclGetUniqueId(&id), ncclSystemError);
    assert_true(calls.cudasim_fail(""));
    GROUP(calls.ncclAllReduce(r[k].in, r[k].out, 8, ncclFloat, ncclSum, r[k].comm, r[k].stream));
    EVERY_RANK(8, sum_of);
    close_all(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(processes),    cmocka_unit_test(death),
                                        cmocka_unit_test(collectives),  cmocka_unit_test(types),
                                        cmocka_unit_test(rings),        cmocka_unit_test(threads),
                                        cmocka_unit_test(mismatch),     cmocka_unit_test(missing_peer),
                                        cmocka_unit_test(refusals),     cmocka_unit_test(without_blocking),
                                        cmocka_unit_test(failing_calls) };
    setenv("QN_CUDASIM_DEVICES", "3", 1);
    setenv("QN_CUDASIM_PATIENCE", "3", 1);
    return simulated_main("libnccl.so.2", tests);
}
#else
int main(void) { return simulated_absent(); }
#endif
