/* test_device.c - the cases run on a backend that is not the CPU's: here one with the double kernels of the CPU and
 * memory of its own, so its results must be those of the CPU to the bit. What is tested is the way there and back
 * (direct.c, lib/drive.c), which the cases of every other backend take. */
#include "ops.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct qn__device {
    int taken;           /* blocks that are not given back */
    int64_t copied[2];   /* bytes to the device, from it */
    struct qn__gpu self; /* kernels of the CPU do not look at it */
};

static const struct qn__gpu *describe(const struct qn__device *d) { return &d->self; }
static const struct qn__queue *queue(struct qn__device *d, int stream)
{
    (void)d, (void)stream;
    return NULL;
}
static qn_status take(struct qn__device *d, void **out, size_t bytes, qn_error *err)
{
    *out = aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (!*out) return qn__nomem(err, "device", bytes);
    memset(*out, 0xA5, bytes);
    d->taken++;
    return QN_OK;
}
static void give(struct qn__device *d, void *memory, size_t bytes)
{
    memset(memory, 0x5A, bytes);
    free(memory);
    d->taken--;
}
static qn_status copy_to(struct qn__device *d, void *device, const void *host, size_t bytes, qn_error *err)
{
    (void)err;
    memcpy(device, host, bytes);
    d->copied[0] += (int64_t)bytes;
    return QN_OK;
}
static qn_status copy_from(struct qn__device *d, void *host, const void *device, size_t bytes, qn_error *err)
{
    (void)err;
    memcpy(host, device, bytes);
    d->copied[1] += (int64_t)bytes;
    return QN_OK;
}
static qn_status wait(struct qn__device *d, struct qn__fault *out, qn_error *err)
{
    (void)d, (void)err;
    memset(out, 0, sizeof *out);
    return QN_OK;
}

static void cases_give_the_same_bits(void **state)
{
    (void)state;
    static const struct qn__device_api api = {
        .describe = describe, .queue = queue, .take = take, .give = give, .put = copy_to, .get = copy_from, .wait = wait
    };
    const struct qn__backend backend = { .name = "twin", .kernel = qn__cpu_f64.kernel, .device = &api };
    struct qn__device device = { 0 };
    const struct drive_on on = { &backend, &device, true };
    int n = 0;
    for (int op = 1; op < QN_OP_COUNT; op++) {
        if (!qn__cpu_f64.kernel[op]->launch) continue;
        for (int i = 0; i < op_cases_of[op]->n; i++, n++) {
            const struct op_case *c = &op_cases_of[op]->c[i];
            struct direct_opts o = { .threads = 2, .block = QN_PLAIN, .fill = 0xFF };
            struct direct here = direct_run((enum qn__opcode)op, c, QN_F64, &o, NULL);
            o.on = &on;
            struct direct there = direct_run((enum qn__opcode)op, c, QN_F64, &o, NULL);
            assert_int_equal(there.status, here.status);
            if (here.status) assert_string_equal(there.err.text, here.err.text);
            if (!here.status && !direct_same_bits(&here, &there))
                fail_msg("%s, case \"%s\": other bits", qn__op_of((enum qn__opcode)op)->name, c->name);
            direct_free(&here);
            direct_free(&there);
        }
    }
    assert_true(n > 1000 && device.copied[0] > 0 && device.copied[1] > 0);
    assert_int_equal(device.taken, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(cases_give_the_same_bits) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
