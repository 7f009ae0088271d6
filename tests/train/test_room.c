/* test_room.c - how much memory there is: from the files of machines that this one is not, and whether a step fits. */
#include "../../train/memory.h"
#include "../lib/workdir.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define MIB ((int64_t)1 << 20)
enum { RESERVE_MIB = 32 };

/* Writes workdir/path, with the directories on the way. */
static void put(const char *path, const char *text)
{
    char full[512];
    snprintf(full, sizeof full, "%s/%s", workdir, path);
    for (char *p = full + strlen(workdir) + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        mkdir(full, 0777);
        *p = '/';
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void expect(int64_t mib, const char *limit)
{
    qn_memory m = qn__memory_below(workdir);
    assert_string_equal(m.limit, limit);
    assert_int_equal(m.bytes, (mib - RESERVE_MIB) * MIB);
}

static void machine_alone(void **state)
{
    (void)state;
    put("proc/meminfo", "MemTotal:       900000 kB\nMemFree:        1024 kB\nMemAvailable:   819200 kB\n");
    expect(800, "MemAvailable");
    put("proc/meminfo", "MemTotal:       900000 kB\nMemAvailable:   8192 kB\n");
    assert_int_equal(qn__memory_below(workdir).bytes, 0); /* less than the reserve */
}

/* The limit of a group above one's own counts; "max" is none; cache that can go is free. */
static void cgroup_two(void **state)
{
    (void)state;
    put("proc/meminfo", "MemAvailable:   8388608 kB\n");
    put("proc/self/cgroup", "0::/a.slice/b\n");
    put("sys/fs/cgroup/a.slice/b/memory.max", "max\n");
    put("sys/fs/cgroup/a.slice/b/memory.current", "1048576\n");
    expect(8192, "MemAvailable");
    put("sys/fs/cgroup/a.slice/memory.max", "1073741824\n");
    put("sys/fs/cgroup/a.slice/memory.current", "536870912\n");
    expect(512, "cgroup");
    put("sys/fs/cgroup/a.slice/memory.stat", "anon 1\nfile 5\ninactive_file 104857600\nactive_file 3\n");
    expect(612, "cgroup");
    put("sys/fs/cgroup/a.slice/b/memory.max", "104857600\n");
    expect(99, "cgroup");
    put("sys/fs/cgroup/a.slice/b/memory.current", "204857600\n");
    assert_int_equal(qn__memory_below(workdir).bytes, 0);
}

static void cgroup_one(void **state)
{
    (void)state;
    put("proc/meminfo", "MemAvailable:   8388608 kB\n");
    put("proc/self/cgroup", "12:cpu,cpuacct:/x\n7:memory:/docker/abc\n1:name=systemd:/y\n");
    put("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "9223372036854771712\n");
    put("sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes", "1048576\n");
    expect(8192, "MemAvailable");
    put("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "268435456\n");
    put("sys/fs/cgroup/memory/docker/abc/memory.stat", "cache 9\ntotal_inactive_file 524288\n");
    put("sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes", "1048576\n");
    qn_memory m = qn__memory_below(workdir);
    assert_string_equal(m.limit, "cgroup");
    assert_int_equal(m.bytes, 256 * MIB - MIB + MIB / 2 - RESERVE_MIB * MIB);
}

/* Within a container the path of the group is the host's: only the top is there. */
static void in_a_container(void **state)
{
    (void)state;
    put("proc/meminfo", "MemAvailable:   8388608 kB\n");
    put("proc/self/cgroup", "0::/system.slice/docker-abc.scope\n");
    put("sys/fs/cgroup/memory.max", "268435456\n");
    put("sys/fs/cgroup/memory.current", "0\n");
    expect(256, "cgroup");
}

static void rubbish(void **state)
{
    (void)state;
    put("proc/meminfo", "MemAvailable:   99999999999999999999999 kB\n");
    put("proc/self/cgroup", "::::\n0:\n0::../../..\nmemory\n");
    put("sys/fs/cgroup/memory.max", "-5\n");
    put("sys/fs/cgroup/memory.current", "x\n");
    assert_true(qn__memory_below(workdir).bytes > 0);
}

/* A limit on the address space is the process's own: asked for in a child. */
static void address_space(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__)
    print_message("# skip: AddressSanitizer's shadow lies beyond any limit on the address space\n");
    skip();
#endif
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rlimit limit = { (rlim_t)2 << 30, (rlim_t)2 << 30 };
        setrlimit(RLIMIT_AS, &limit);
        qn_memory m = qn__memory_below(workdir); /* no other limits here */
        _exit(strcmp(m.limit, "RLIMIT_AS") == 0 && m.bytes > 0 && m.bytes < (int64_t)2 << 30 ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
}

/* ---- does it fit? ------------------------------------------------------------------------------------------------ */

static const char recipe_text[] =
    "{\"quern\": 1, \"data\": {\"digits\": 100}, \"model\": [\"flatten\", {\"linear\": 64, \"activation\": \"relu\"}, "
    "{\"linear\": 10}], \"loss\": \"cross_entropy\", \"optimizer\": \"adam\", \"batch\": 64}";
static const qn_transform shape = { .rank = 3, .dim = { 1, 28, 28 }, .n_classes = 10 };

static int64_t need_of(const qn_recipe *r, int64_t batch)
{
    qn_plan plan;
    qn_error err = { 0 };
    assert_int_equal(qn_plan_open(&plan, r, &shape, batch, 1, NULL, &err), QN_OK);
    qn_bytes b = qn_program_bytes(plan.program);
    qn_plan_free(&plan);
    return qn__bytes_total(&b);
}

static qn_recipe *recipe(void)
{
    qn_recipe *r;
    assert_int_equal(qn_recipe_parse(&r, "r.json", recipe_text, sizeof recipe_text - 1, NULL, 0, NULL), QN_OK);
    return r;
}

/* One byte less than batch n needs is one batch less. */
static void largest_batch(void **state)
{
    (void)state;
    qn_recipe *r = recipe();
    int64_t found;
    qn_error err = { 0 };
    static const int64_t batches[] = { 1, 2, 17, 44, 64 };
    for (size_t i = 0; i < sizeof batches / sizeof batches[0]; i++) {
        int64_t need = need_of(r, batches[i]);
        assert_int_equal(qn_plan_largest_batch(&found, r, &shape, 64, 1, need, &err), QN_OK);
        assert_true(found >= batches[i]);
        assert_true(found == 64 || need_of(r, found + 1) > need);
        assert_int_equal(qn_plan_largest_batch(&found, r, &shape, 64, 1, need - 1, &err), QN_OK);
        assert_true(found < batches[i] || need_of(r, found) < need);
    }
    assert_int_equal(qn_plan_largest_batch(&found, r, &shape, 64, 1, 1000, &err), QN_OK);
    assert_int_equal(found, 0);
    qn_recipe_free(r);
}

static void exact_line(void **state)
{
    (void)state;
    qn_recipe *r = recipe();
    qn_error err = { 0 };
    qn_plan plan;
    char line[300];
    int64_t need = need_of(r, 64), have = need_of(r, 44), largest;
    assert_int_equal(qn_plan_open(&plan, r, &shape, 64, 1, NULL, &err), QN_OK);
    assert_int_equal(qn_plan_fits(&plan, r, &shape, 64, 1, need, &err), QN_OK);
    assert_int_equal(qn_plan_fits(&plan, r, &shape, 64, 1, have, &err), QN_EMEMORY);
    qn_bytes b = qn_program_bytes(plan.program);
    assert_int_equal(qn_plan_largest_batch(&largest, r, &shape, 63, 1, have, NULL), QN_OK);
    snprintf(line, sizeof line,
             "error E5001 memory: host: needs %.2f MiB (weights %.1f, optimizer %.1f, activations %.1f, workspace "
             "%.1f); have %.2f MiB; largest batch that fits: %lld",
             (double)need / MIB, (double)(b.params + b.buffers) / MIB, (double)(b.state + b.grads) / MIB,
             (double)(b.io + b.work - b.workspace) / MIB, (double)b.workspace / MIB, (double)have / MIB,
             (long long)largest);
    assert_string_equal(err.text, line);
    assert_int_equal(err.code, 5001);
    /* Gibibytes from one on. */
    b.params += (size_t)30 << 30;
    assert_int_equal(qn__memory_compare(&b, (int64_t)22 << 30, r, &shape, 1, 1, &err), QN_EMEMORY);
    assert_non_null(strstr(err.text, "host: needs 30.00 GiB (weights 30.0, "));
    assert_non_null(strstr(err.text, "; have 22.00 GiB; largest batch that fits: 0"));
    qn_plan_free(&plan);
    qn_recipe_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(machine_alone, workdir_begin, workdir_end),
        cmocka_unit_test_setup_teardown(cgroup_two, workdir_begin, workdir_end),
        cmocka_unit_test_setup_teardown(cgroup_one, workdir_begin, workdir_end),
        cmocka_unit_test_setup_teardown(in_a_container, workdir_begin, workdir_end),
        cmocka_unit_test_setup_teardown(rubbish, workdir_begin, workdir_end),
        cmocka_unit_test_setup_teardown(address_space, workdir_begin, workdir_end),
        cmocka_unit_test(largest_batch),
        cmocka_unit_test(exact_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
