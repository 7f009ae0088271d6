/* Checkpoints: round trip, retention, fall back, and each way in which a directory can be wrong. */
#include "io.h"
#include "ckpt.h"
#include "../../core/checkpoint.h"
#include <errno.h>
#include <signal.h>
#include <sys/sysmacros.h>
#include <math.h>
#include <sys/wait.h>

static void write_step(const char *dir, int64_t step, int keep)
{
    struct ckpt_sample s;
    qn_error err = { 0 };
    ckpt_fill(&s, step);
    if (qn_checkpoint_write(dir, &s.c, keep, &err)) print_error("%s\n", err.text);
    assert_int_equal(err.code, 0);
}

/* A fresh directory "ck" with the steps 800 and 900. */
static const char *fresh(void)
{
    workdir_remove(workdir_path("ck"));
    write_step(workdir_path("ck"), 800, 0);
    write_step(workdir_path("ck"), 900, 0);
    return workdir_path("ck");
}

struct lines {
    int n;
    char text[8][401];
};
static void keep_line(void *user, const char *line)
{
    struct lines *l = user;
    if (l->n < 8) snprintf(l->text[l->n], sizeof l->text[0], "%s", line);
    l->n++;
}
static void assert_text(const char *text, const char *expected)
{
    qn_error e = { 0 };
    snprintf(e.text, sizeof e.text, "%s", text);
    assert_line(&e, expected);
}

/* step-900 is broken with exactly this line; newest falls back to 800, saying so. */
static void assert_broken(const char *expected)
{
    qn_error err = { 0 };
    qn_checkpoint *ck;
    char with_next[480];
    struct lines lines = { 0 };
    int skipped, fds = open_fds();
    qn_status status = qn_checkpoint_open(&ck, workdir_path("ck/step-000900"), &err);
    assert_null(ck);
    assert_line(&err, expected);
    assert_int_equal(status, QN_EMODEL);
    assert_int_equal(qn_checkpoint_open_newest(&ck, workdir_path("ck"), &skipped, keep_line, &lines, &err), QN_OK);
    assert_int_equal(skipped, 1);
    assert_int_equal(lines.n, 1);
    snprintf(with_next, sizeof with_next, "%s; trying step-000800", expected);
    assert_text(lines.text[0], with_next);
    assert_int_equal(qn_checkpoint_step(ck), 800);
    assert_true(ckpt_is_sample(ck));
    qn_checkpoint_close(ck);
    assert_int_equal(open_fds(), fds);
}

static void round_trip(void **state)
{
    (void)state;
    const char *dir = fresh();
    qn_checkpoint *ck;
    qn_error err = { 0 };
    int skipped = 7, fds = open_fds();
    assert_int_equal(qn_checkpoint_open_newest(&ck, dir, &skipped, NULL, NULL, &err), QN_OK);
    assert_int_equal(skipped, 0);
    assert_int_equal(qn_checkpoint_step(ck), 900);
    assert_string_equal(qn_checkpoint_run(ck), "run-1");
    assert_text(qn_checkpoint_path(ck), "~/ck/step-000900");
    assert_true(ckpt_is_sample(ck));
    assert_null(qn_checkpoint_text(ck, "absent.json"));
    assert_null(qn_checkpoint_text(ck, "model.safetensors"));
    qn_checkpoint_close(ck);
    qn_checkpoint_close(NULL);
    char *latest = get_file(workdir_path("ck/latest"), NULL);
    assert_string_equal(latest, "step-000900\n");
    free(latest);
    assert_int_equal(entries_in(workdir_path("ck/step-000900")), 4);
    assert_int_equal(entries_in(dir), 3); /* no leftovers */
    assert_int_equal(open_fds(), fds);
}

static void nothing_to_save_is_fine(void **state)
{
    (void)state;
    qn_checkpoint_contents c = { .step = 0, .run_id = "r" };
    qn_checkpoint *ck;
    qn_error err = { 0 };
    assert_int_equal(qn_checkpoint_write(workdir_path("deep/er/empty"), &c, 1, &err), QN_OK);
    assert_int_equal(qn_checkpoint_open_newest(&ck, workdir_path("deep/er/empty"), NULL, NULL, NULL, &err), QN_OK);
    assert_int_equal(qn_checkpoint_step(ck), 0);
    assert_int_equal(qn_safetensors_count(qn_checkpoint_model(ck)), 0);
    qn_checkpoint_close(ck);
}

static void keeps_the_newest(void **state)
{
    (void)state;
    const char *dir = fresh();
    struct ckpt_sample best;
    ckpt_fill(&best, 850);
    assert_int_equal(qn_checkpoint_write_named(dir, "best", &best.c, NULL), QN_OK);
    write_step(dir, 1000, 3);
    assert_int_equal(access(workdir_path("ck/step-000800"), F_OK), 0);
    write_step(dir, 1100, 2);
    assert_int_not_equal(access(workdir_path("ck/step-000800"), F_OK), 0);
    assert_int_not_equal(access(workdir_path("ck/step-000900"), F_OK), 0);
    assert_int_equal(access(workdir_path("ck/step-001000"), F_OK), 0);
    assert_int_equal(qn_checkpoint_verify(workdir_path("ck/best"), NULL), QN_OK);
    write_step(dir, 950, 1); /* an older step after a rewind: never the one that goes */
    assert_int_equal(access(workdir_path("ck/step-000950"), F_OK), 0);
    write_step(dir, 1234567, 1);
    assert_int_equal(access(workdir_path("ck/step-1234567"), F_OK), 0);
    assert_int_equal(entries_in(dir), 3);
}

static void rewriting_a_step_replaces_it(void **state)
{
    (void)state;
    const char *dir = fresh();
    put_file(workdir_path("ck/step-000900/model.safetensors"), "x", 1);
    write_step(dir, 900, 0);
    assert_int_equal(qn_checkpoint_verify(workdir_path("ck/step-000900"), NULL), QN_OK);
    assert_int_equal(entries_in(dir), 3);
}

static void named_checkpoints_are_replaced(void **state)
{
    (void)state;
    const char *dir = fresh();
    qn_error err = { 0 };
    struct ckpt_sample s;
    for (int64_t step = 1; step <= 3; step++) {
        qn_checkpoint *ck;
        ckpt_fill(&s, step);
        assert_int_equal(qn_checkpoint_write_named(dir, "best", &s.c, &err), QN_OK);
        assert_int_equal(qn_checkpoint_open(&ck, workdir_path("ck/best"), &err), QN_OK);
        assert_int_equal(qn_checkpoint_step(ck), step);
        assert_true(ckpt_is_sample(ck));
        qn_checkpoint_close(ck);
        assert_int_equal(entries_in(dir), 4);
    }
    static const char *const bad[][2] = {
        { "step-000001", "name is reserved" },
        { "latest", "name is reserved" },
        { "", "name must have 1..100 bytes" },
        { "../best", "name must not begin with '.'" },
        { "a/b", "name must be made of A-Z a-z 0-9 . _ -" },
    };
    for (size_t i = 0; i < N_OF(bad); i++) {
        char line[300];
        assert_int_equal(qn_checkpoint_write_named(dir, bad[i][0], &s.c, &err), QN_EMODEL);
        snprintf(line, sizeof line, "error E4024 checkpoint: ~/ck: checkpoint \"%s\": %s", bad[i][0], bad[i][1]);
        assert_line(&err, line);
    }
}

static void refuses_contents_it_could_not_read_back(void **state)
{
    (void)state;
    const char *dir = fresh();
    struct ckpt_sample s;
    qn_error err = { 0 };
    ckpt_fill(&s, 7);
    s.c.step = -1;
    assert_int_equal(qn_checkpoint_write(dir, &s.c, 0, &err), QN_EMODEL);
    assert_line(&err, "error E4024 checkpoint: ~/ck/step--00001: step -1; expected >= 0");
    ckpt_fill(&s, 7);
    s.c.run_id = "";
    assert_int_equal(qn_checkpoint_write(dir, &s.c, 0, &err), QN_EMODEL);
    assert_line(&err, "error E4024 checkpoint: ~/ck/step-000007: run id of 0 bytes; expected 1..128 of UTF-8");
    static const char *const parts[][2] = { { "manifest.json", "is reserved" },
                                            { "state.safetensors", "is reserved" },
                                            { "../x", "name must not begin with '.'" },
                                            { "a b", "name must be made of A-Z a-z 0-9 . _ -" } };
    for (size_t i = 0; i < N_OF(parts); i++) {
        char line[300];
        ckpt_fill(&s, 7);
        s.part[0].name = parts[i][0];
        assert_int_equal(qn_checkpoint_write(dir, &s.c, 0, &err), QN_EMODEL);
        snprintf(line, sizeof line, "error E4024 checkpoint: ~/ck/step-000007: part \"%s\": %s", parts[i][0],
                 parts[i][1]);
        assert_line(&err, line);
    }
    ckpt_fill(&s, 7);
    s.model[1].name = s.model[0].name;
    assert_int_equal(qn_checkpoint_write(dir, &s.c, 0, &err), QN_EMODEL);
    assert_int_equal(err.code, 4018);
    assert_int_equal(entries_in(dir), 3);
}

/* ---- A6, D5, D7: what is wrong, by name ---------------------------------------------------- */

static void copy_file(const char *from, const char *to)
{
    size_t n;
    char *data = get_file(from, &n);
    assert_non_null(data);
    put_file(to, data, n);
    free(data);
}

#define CK(code) "error E" #code " checkpoint: ~/ck/step-000900/"
#define STATE "file \"state.safetensors\": "
static void missing_extra_and_mixed_files(void **state)
{
    (void)state;
    static const char *const names[] = { "model.safetensors", "state.safetensors", "recipe.json" };
    for (size_t i = 0; i < N_OF(names); i++) {
        char path[64], line[200];
        fresh();
        snprintf(path, sizeof path, "ck/step-000900/%s", names[i]);
        unlink(workdir_path(path));
        snprintf(line, sizeof line, CK(4022) "manifest.json: file \"%s\": No such file or directory", names[i]);
        assert_broken(line);
    }
    fresh();
    unlink(workdir_path("ck/step-000900/manifest.json"));
    assert_broken(CK(4022) "manifest.json: No such file or directory");
    fresh();
    copy_file(workdir_path("ck/step-000900/model.safetensors"), workdir_path("ck/step-000900/shard-2.safetensors"));
    assert_broken(CK(4022) "shard-2.safetensors: not in the manifest; expected only listed files");
    fresh();
    copy_file(workdir_path("ck/step-000800/state.safetensors"), workdir_path("ck/step-000900/state.safetensors"));
    assert_broken(CK(4022) "manifest.json: " STATE "step 800; expected 900");
    fresh();
    copy_file(workdir_path("ck/step-000800/recipe.json"), workdir_path("ck/step-000900/recipe.json"));
    qn_error err = { 0 };
    assert_int_equal(qn_checkpoint_verify(workdir_path("ck/step-000900"), &err), QN_EMODEL);
    assert_int_equal(err.code, 4032);
    fresh();
    copy_file(workdir_path("ck/step-000900/model.safetensors"), workdir_path("m"));
    copy_file(workdir_path("ck/step-000900/state.safetensors"), workdir_path("ck/step-000900/model.safetensors"));
    copy_file(workdir_path("m"), workdir_path("ck/step-000900/state.safetensors"));
    assert_int_equal(qn_checkpoint_verify(workdir_path("ck/step-000900"), &err), QN_EMODEL);
    assert_int_equal(err.code, 4032); /* the two happen to have the same size */
    struct ckpt_sample s;
    fresh();
    ckpt_fill(&s, 900);
    s.c.run_id = "run-2";
    assert_int_equal(qn_checkpoint_write(workdir_path("other"), &s.c, 0, NULL), QN_OK);
    copy_file(workdir_path("other/step-000900/state.safetensors"), workdir_path("ck/step-000900/state.safetensors"));
    assert_broken(CK(4022) "manifest.json: " STATE "run run-2; expected run-1");
}

static void refused_kinds_of_files(void **state)
{
    (void)state;
    char path[512];
    fresh();
    snprintf(path, sizeof path, "%s", workdir_path("ck/step-000900/state.safetensors"));
    assert_int_equal(rename(path, workdir_path("moved")), 0);
    assert_int_equal(symlink("../../moved", path), 0);
    assert_broken(CK(4022) "manifest.json: " STATE "is or passes a symbolic link; expected a regular file");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(link(workdir_path("moved"), path), 0);
    assert_broken(CK(4022) "manifest.json: " STATE "has several hard links; expected one");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_broken(CK(4022) "manifest.json: " STATE "is a FIFO; expected a regular file");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_broken(CK(4022) "manifest.json: " STATE "is a directory; expected a regular file");
    assert_int_equal(rmdir(path), 0);
    if (mknod(path, S_IFCHR | 0600, makedev(1, 5)) == 0)
        assert_broken(CK(4022) "manifest.json: " STATE "is a device; expected a regular file");
    else
        print_message("device file: not tried, mknod: %s\n", strerror(errno));
    /* A step that is itself a link is not followed out of the directory. */
    fresh();
    assert_int_equal(symlink("step-000900", workdir_path("ck/step-001000")), 0);
    qn_checkpoint *ck;
    struct lines lines = { 0 };
    assert_int_equal(qn_checkpoint_open_newest(&ck, workdir_path("ck"), NULL, keep_line, &lines, NULL), QN_OK);
    assert_text(lines.text[0], "error E6001 io: ~/ck/step-001000: open: Not a directory; trying step-000900");
    qn_checkpoint_close(ck);
}

/* Replaces the manifest of step 900 by `body` with a valid checksum line appended. */
static void put_manifest(const char *body)
{
    char text[2048];
    int n = snprintf(text, sizeof text, "%s,\n ", body);
    uint32_t crc = qn__crc32(0, text, (size_t)n);
    n += snprintf(text + n, sizeof text - (size_t)n, "\"manifest_crc32\": \"%08x\"\n}\n", (unsigned)crc);
    put_file(workdir_path("ck/step-000900/manifest.json"), text, (size_t)n);
}

#define HEAD "{\"format\": \"quern-checkpoint\", \"version\": 1, \"quern\": \"0.1.0\""
#define TWO \
    "\"model.safetensors\": {\"bytes\":1,\"crc32\":\"00000000\",\"tensors\":{}}," \
    "\"state.safetensors\": {\"bytes\":1,\"crc32\":\"00000000\",\"tensors\":{}}"
#define REST ", \"run\": \"run-1\", \"step\": 900, \"files\": {" TWO "}"
static void malformed_manifests(void **state)
{
    (void)state;
    static const struct {
        const char *body, *line;
    } bad[] = {
        { "{\"format\": \"x\"", CK(4021) "manifest.json: format: missing or of the wrong type; expected "
                                         "\"quern-checkpoint\"" },
        { "{\"format\": \"quern-checkpoint\", \"version\": \"1\"",
          CK(4021) "manifest.json: version: missing or of the wrong type; expected an integer from 1" },
        { "{\"format\": \"quern-checkpoint\", \"version\": 2, \"quern\": \"0.7.0\"",
          CK(4023) "manifest.json: version: 2; expected <= 1; use quern >= 0.7.0" },
        { HEAD, CK(4021) "manifest.json: run: missing or of the wrong type; expected 1..128 bytes" },
        { HEAD ", \"run\": \"r\", \"step\": 1.5",
          CK(4021) "manifest.json: step: missing or of the wrong type; expected an integer from 0" },
        { HEAD ", \"run\": \"r\", \"step\": 1",
          CK(4021) "manifest.json: files: missing or of the wrong type; expected an object" },
        { HEAD ", \"run\": \"r\", \"step\": 1, \"x\": 1", CK(4021) "manifest.json: unknown key \"x\"" },
        { HEAD ", \"run\": \"r\", \"step\": 1, \"files\": {}",
          CK(4022) "manifest.json: lists no model.safetensors; expected both model.safetensors and "
                   "state.safetensors" },
        { HEAD ", \"run\": \"r\", \"step\": 1, \"files\": {\"../x\": {}}",
          CK(4022) "manifest.json: file \"../x\": name must not begin with '.'" },
        { HEAD ", \"run\": \"r\", \"step\": 1, \"files\": {\"/etc/passwd\": {}}",
          CK(4022) "manifest.json: file \"/etc/passwd\": name must be made of A-Z a-z 0-9 . _ -" },
        { HEAD ", \"run\": \"r\", \"step\": 1, \"files\": {\"a/../../x\": {}}",
          CK(4022) "manifest.json: file \"a/../../x\": name must be made of A-Z a-z 0-9 . _ -" },
        { HEAD ", \"run\": \"r\", \"step\": 1, \"files\": {\"manifest.json\": {}}",
          CK(4022) "manifest.json: file \"manifest.json\": a manifest cannot list itself" },
        { HEAD ", \"run\": \"r\", \"step\": 1, \"files\": {\"a\": {\"bytes\": -1, \"crc32\": \"00000000\"}}",
          CK(4021) "manifest.json: file \"a\": malformed; expected bytes and crc32" },
        { HEAD ", \"run\": \"r\", \"step\": 1, \"files\": {\"a\": {\"bytes\": 1, \"crc32\": \"0000000G\"}}",
          CK(4021) "manifest.json: file \"a\": malformed; expected bytes and crc32" },
        { HEAD ", \"run\": \"r\", \"step\": 1, \"files\": {\"a\": {\"bytes\": 99999999, \"crc32\": "
               "\"00000000\"}}",
          CK(4021) "manifest.json: file \"a\": malformed; expected bytes and crc32" },
        { HEAD ", \"run\": \"r\", \"step\": 1, \"files\": {\"model.safetensors\": {\"bytes\": 1, \"crc32\": "
               "\"00000000\"}}",
          CK(4021) "manifest.json: file \"model.safetensors\": malformed; expected bytes, crc32 and tensors" },
        { HEAD ", \"run\": \"r\", \"step\": 1, \"files\": {\"model.safetensors\": {\"bytes\": 1, \"crc32\": "
               "\"00000000\", \"tensors\": {\"w\": 3}}}",
          CK(4021) "manifest.json: file \"model.safetensors\": crc32 of tensor \"w\" malformed; expected 8 hex "
                   "digits" },
        { HEAD REST ", \"a\": [[[[[[[[1]]]]]]]]", CK(4021) "manifest.json@300: nesting deeper than 8" },
    };
    fresh();
    for (size_t i = 0; i < N_OF(bad); i++) {
        put_manifest(bad[i].body);
        if (i + 1 == N_OF(bad)) { /* the offset follows from the text above */
            qn_error err = { 0 };
            assert_int_equal(qn_checkpoint_verify(workdir_path("ck/step-000900"), &err), QN_EMODEL);
            assert_non_null(strstr(err.text, ": nesting deeper than 8"));
            continue;
        }
        assert_broken(bad[i].line);
    }
    put_manifest(HEAD REST ", \"step\": 900");
    qn_error err = { 0 };
    assert_int_equal(qn_checkpoint_verify(workdir_path("ck/step-000900"), &err), QN_EMODEL);
    assert_non_null(strstr(err.text, "duplicate object key"));
    put_file(workdir_path("ck/step-000900/manifest.json"), "", 0);
    assert_int_equal(qn_checkpoint_verify(workdir_path("ck/step-000900"), &err), QN_EMODEL);
    assert_int_equal(err.code, 4021);
    char *deep = malloc(100000);
    memset(deep, '[', 100000);
    put_file(workdir_path("ck/step-000900/manifest.json"), deep, 100000);
    assert_broken(CK(4021) "manifest.json@8: nesting deeper than 8");
    free(deep);
}

static void none_that_verifies(void **state)
{
    (void)state;
    qn_checkpoint *ck;
    qn_error err = { 0 };
    struct lines lines = { 0 };
    int skipped;
    fresh();
    put_file(workdir_path("ck/step-000900/recipe.json"), "", 0);
    put_file(workdir_path("ck/step-000800/recipe.json"), "", 0);
    assert_int_equal(qn_checkpoint_open_newest(&ck, workdir_path("ck"), &skipped, keep_line, &lines, &err), QN_EMODEL);
    assert_line(&err, "error E4033 checkpoint: ~/ck: none of 2 checkpoints verifies; expected one");
    assert_int_equal(skipped, 2);
    assert_text(lines.text[0], CK(4031) "recipe.json: 0 bytes; manifest says 31; trying step-000800");
    assert_text(lines.text[1], "error E4031 checkpoint: ~/ck/step-000800/recipe.json: 0 bytes; manifest says 31");
    workdir_remove(workdir_path("ck"));
    mkdir(workdir_path("ck"), 0700);
    mkdir(workdir_path("ck/step-9"), 0700); /* not how a step is spelt */
    assert_int_equal(qn_checkpoint_open_newest(&ck, workdir_path("ck"), NULL, NULL, NULL, &err), QN_EMODEL);
    assert_line(&err, "error E4033 checkpoint: ~/ck: no checkpoint; expected directories step-NNNNNN");
    assert_int_equal(qn_checkpoint_open_newest(&ck, workdir_path("absent"), NULL, NULL, NULL, &err), QN_EIO);
    assert_line(&err, "error E6001 io: ~/absent: open: No such file or directory");
}

/* ---- D5, D6: every length, every bit ------------------------------------------------------- */

static const char *const all_files[] = { "model.safetensors", "state.safetensors", "recipe.json", "manifest.json" };

static void every_truncation(void **state)
{
    (void)state;
    for (size_t k = 0; k < N_OF(all_files); k++) {
        char name[64], path[512];
        size_t n;
        fresh();
        snprintf(name, sizeof name, "ck/step-000900/%s", all_files[k]);
        snprintf(path, sizeof path, "%s", workdir_path(name));
        char *whole = get_file(path, &n);
        for (size_t cut = n; cut-- > 0;) {
            char line[300];
            qn_error err = { 0 };
            assert_int_equal(truncate(path, (off_t)cut), 0);
            assert_int_equal(qn_checkpoint_verify(workdir_path("ck/step-000900"), &err), QN_EMODEL);
            snprintf(line, sizeof line, CK(4031) "%s: %zu bytes; manifest says %zu", all_files[k], cut, n);
            if (k < 3) assert_line(&err, line);
        }
        if (k < 3) {
            char line[300];
            snprintf(line, sizeof line, CK(4031) "%s: 0 bytes; manifest says %zu", all_files[k], n);
            assert_broken(line);
        }
        free(whole);
    }
}

static void every_bit(void **state)
{
    (void)state;
    int named = 0, total = 0;
    fresh();
    for (size_t k = 0; k < N_OF(all_files); k++) {
        char name[64];
        size_t n;
        snprintf(name, sizeof name, "ck/step-000900/%s", all_files[k]);
        char *bytes = get_file(workdir_path(name), &n);
        int fd = open(workdir_path(name), O_WRONLY | O_CLOEXEC);
        for (size_t bit = 0; bit < n * 8; bit++, total++) {
            qn_error err = { 0 };
            char c = (char)(bytes[bit / 8] ^ (1 << bit % 8));
            assert_int_equal(pwrite(fd, &c, 1, (off_t)(bit / 8)), 1);
            qn_status status = qn_checkpoint_verify(workdir_path("ck/step-000900"), &err);
            if (status != QN_EMODEL) print_error("%s bit %zu: %s\n", name, bit, err.text);
            assert_int_equal(status, QN_EMODEL);
            named += strstr(err.text, "tensor \"") != NULL && err.code == 4032;
            assert_int_equal(pwrite(fd, &bytes[bit / 8], 1, (off_t)(bit / 8)), 1);
        }
        close(fd);
        free(bytes);
    }
    assert_true(named >= (12 + 4 + 12) * 4 * 8 + 64); /* at least every bit of every value */
    print_message("%d bit flips, all detected; %d name the tensor\n", total, named);
    /* One of them by its whole line: the sign of fc.weight[0] (fc.bias comes first in the file). */
    qn_safetensors *st;
    qn_tensor_info t;
    char line[300];
    assert_int_equal(qn_safetensors_open(&st, workdir_path("ck/step-000900/model.safetensors"), NULL, NULL), QN_OK);
    assert_true(qn_safetensors_find(st, "fc.weight", &t));
    struct ckpt_sample s;
    ckpt_fill(&s, 900);
    uint32_t good = qn__crc32(0, s.weight, sizeof s.weight);
    s.weight[0] = -s.weight[0];
    uint32_t bad = qn__crc32(0, s.weight, sizeof s.weight);
    int fd = open(workdir_path("ck/step-000900/model.safetensors"), O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, s.weight, 4, (off_t)t.offset), 4);
    close(fd);
    snprintf(line, sizeof line, CK(4032) "model.safetensors@%lld: tensor \"fc.weight\": crc32 %08x; manifest says %08x",
             (long long)t.offset, (unsigned)bad, (unsigned)good);
    assert_broken(line);
    qn_safetensors_close(st);
}

static void state_may_hold_infinities_and_the_model_may_not(void **state)
{
    (void)state;
    struct ckpt_sample s;
    qn_checkpoint *ck;
    qn_tensor_info t;
    qn_error err = { 0 };
    float out[CKPT_WEIGHTS];
    ckpt_fill(&s, 5);
    s.moment[0] = INFINITY;
    s.weight[5] = NAN;
    assert_int_equal(qn_checkpoint_write(workdir_path("inf"), &s.c, 0, &err), QN_OK);
    assert_int_equal(qn_checkpoint_open(&ck, workdir_path("inf/step-000005"), &err), QN_OK);
    assert_true(qn_safetensors_find(qn_checkpoint_state(ck), "adam.m.fc.weight", &t));
    assert_int_equal(qn_safetensors_read(qn_checkpoint_state(ck), &t, out, QN_F32, &err), QN_OK);
    assert_true(qn_safetensors_find(qn_checkpoint_model(ck), "fc.weight", &t));
    assert_int_equal(qn_safetensors_read(qn_checkpoint_model(ck), &t, out, QN_F32, &err), QN_EMODEL);
    char line[300];
    snprintf(line, sizeof line,
             "error E4016 model: ~/inf/step-000005/model.safetensors@%lld: tensor \"fc.weight\": value [5] is nan (1 "
             "of 12 not finite); expected finite numbers",
             (long long)t.offset + 20);
    assert_line(&err, line);
    qn_checkpoint_close(ck);
}

/* ---- D8, D9, D11 --------------------------------------------------------------------------- */

static void lists_what_does_not_match(void **state)
{
    (void)state;
    fresh();
    qn_checkpoint *ck;
    qn_error err = { 0 };
    struct lines lines = { 0 };
    assert_int_equal(qn_checkpoint_open(&ck, workdir_path("ck/step-000900"), &err), QN_OK);
    const qn_safetensors *st = qn_checkpoint_model(ck);
    const qn_tensor_data same[] = { { "fc.bias", QN_F32, 1, { 4 }, NULL }, { "fc.weight", QN_F32, 2, { 3, 4 }, NULL } };
    assert_int_equal(qn_tensors_match(st, same, 2, 0, keep_line, &lines, &err), QN_OK);
    assert_int_equal(lines.n, 0);
    const qn_tensor_data other[] = {
        { "a", QN_F32, 1, { 4 }, NULL },
        { "b", QN_F32, 1, { 4 }, NULL },
        { "c", QN_F32, 1, { 4 }, NULL },
        { "d", QN_F32, 1, { 4 }, NULL },
        { "e", QN_F32, 1, { 4 }, NULL },
        { "f", QN_F32, 1, { 4 }, NULL },
        { "fc.weight", QN_F32, 2, { 4, 3 }, NULL },
    };
    assert_int_equal(qn_tensors_match(st, other, 7, 0, keep_line, &lines, &err), QN_EMODEL);
    assert_line(&err, "error E4041 checkpoint: ~/ck/step-000900/model.safetensors: 6 missing, 1 unexpected, 1 "
                      "mismatched tensors; expected the 7 of the program; first: missing \"a\"");
    assert_int_equal(lines.n, 3);
    assert_string_equal(lines.text[0], "missing (6): \"a\", \"b\", \"c\", \"d\", \"e\", ...");
    assert_string_equal(lines.text[1], "unexpected (1): \"fc.bias\"");
    assert_string_equal(lines.text[2], "mismatched (1): \"fc.weight\" F32 [3,4] expected F32 [4,3]");
    const qn_tensor_data half[] = { { "fc.weight", QN_BF16, 2, { 3, 4 }, NULL } };
    assert_int_equal(qn_tensors_match(st, half, 1, QN_MATCH_EXTRA, NULL, NULL, &err), QN_EMODEL);
    assert_line(&err, "error E4041 checkpoint: ~/ck/step-000900/model.safetensors: 0 missing, 0 unexpected, 1 "
                      "mismatched tensors; expected the 1 of the program; first: mismatched \"fc.weight\" F32 [3,4] "
                      "expected BF16 [3,4]");
    assert_int_equal(qn_tensors_match(st, half, 1, QN_MATCH_EXTRA | QN_MATCH_ANY_DTYPE, NULL, NULL, &err), QN_OK);
    assert_int_equal(qn_tensors_match(st, half, 0, 0, NULL, NULL, &err), QN_EMODEL);
    qn_checkpoint_close(ck);
}

/* Made by the first version that wrote this format; must load for ever. */
static void loads_the_golden_checkpoint(void **state)
{
    (void)state;
    qn_checkpoint *ck;
    qn_error err = { 0 };
    char path[512];
    snprintf(path, sizeof path, "%s", __FILE__);
    char *slash = strrchr(path, '/');
    snprintf(slash ? slash : path, 64, "%sgolden/version-1/step-000003", slash ? "/" : "");
    if (qn_checkpoint_open(&ck, path, &err)) print_error("%s\n", err.text);
    assert_int_equal(err.code, 0);
    assert_int_equal(qn_checkpoint_step(ck), 3);
    assert_true(ckpt_is_sample(ck));
    qn_checkpoint_close(ck);
}

static void one_job_per_directory(void **state)
{
    (void)state;
    qn_run_lock *lock, *second;
    qn_error err = { 0 };
    char start[sizeof workdir + 400], host[256] = "";
    fresh();
    int fds = open_fds();
    assert_int_equal(qn_run_lock_take(&lock, workdir_path("ck"), &err), QN_OK);
    assert_int_equal(qn_run_lock_take(&second, workdir_path("ck"), &err), QN_EIO);
    assert_null(second);
    assert_int_equal(err.code, 6011);
    gethostname(host, sizeof host - 1);
    snprintf(start, sizeof start, "error E6011 io: %s/ck: locked by pid %ld on %s since 20", workdir, (long)getpid(),
             host);
    assert_memory_equal(err.text, start, strlen(start));
    qn_run_lock_release(lock);
    qn_run_lock_release(NULL);
    assert_int_equal(open_fds(), fds);
    /* The holder's death, of whatever kind, frees it. */
    pid_t child = fork();
    if (child == 0) {
        if (qn_run_lock_take(&lock, workdir_path("ck"), NULL)) _exit(1);
        raise(SIGKILL);
    }
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how));
    assert_int_equal(qn_run_lock_take(&lock, workdir_path("ck"), &err), QN_OK);
    qn_run_lock_release(lock);
    assert_int_equal(qn_run_lock_take(&lock, workdir_path("absent"), &err), QN_EIO);
    assert_line(&err, "error E6001 io: ~/absent: open: No such file or directory");
    /* Nobody has to trust what a lock file says. */
    assert_int_equal(qn_run_lock_take(&lock, workdir_path("ck"), &err), QN_OK);
    put_file(workdir_path("ck/.lock"), "pid \033[2J\n", 9);
    assert_int_equal(qn_run_lock_take(&second, workdir_path("ck"), &err), QN_EIO);
    assert_line(&err, "error E6011 io: ~/ck: locked by pid \\x1B[2J");
    put_file(workdir_path("ck/.lock"), "", 0);
    assert_int_equal(qn_run_lock_take(&second, workdir_path("ck"), &err), QN_EIO);
    assert_line(&err, "error E6011 io: ~/ck: locked by another job");
    qn_run_lock_release(lock);
}

/* Two jobs racing for one directory, 200 times: always exactly one wins. */
static void race_for_the_lock(void **state)
{
    (void)state;
    mkdir(workdir_path("race"), 0700);
    for (int round = 0; round < 200; round++) {
        int pipes[2], won = 0;
        assert_int_equal(pipe(pipes), 0);
        for (int k = 0; k < 2; k++)
            if (fork() == 0) {
                qn_run_lock *lock;
                char c;
                close(pipes[1]);
                /* Holds what it got until the parent has counted. */
                qn_status status = qn_run_lock_take(&lock, workdir_path("race"), NULL);
                if (status) _exit(status == QN_EIO ? 0 : 9);
                if (read(pipes[0], &c, 1) < 0) _exit(8);
                _exit(1);
            }
        int how;
        close(pipes[0]);
        assert_true(wait(&how) > 0); /* the loser */
        won += WEXITSTATUS(how);
        close(pipes[1]);
        assert_true(wait(&how) > 0);
        won += WEXITSTATUS(how);
        assert_int_equal(won, 1);
    }
}

/* ---- leftovers ----------------------------------------------------------------------------- */

static void removes_leftovers_of_the_dead_only(void **state)
{
    (void)state;
    char alive[100], dead[100], old[100], lost[100];
    const char *dir = fresh();
    pid_t gone = fork();
    if (gone == 0) _exit(0);
    waitpid(gone, NULL, 0);
    snprintf(alive, sizeof alive, "ck/.step-000950.tmp.%ld", (long)getppid());
    snprintf(dead, sizeof dead, "ck/.step-000950.tmp.%ld", (long)gone);
    snprintf(old, sizeof old, "ck/.best.old.%ld", (long)gone);
    snprintf(lost, sizeof lost, "ck/.latest.tmp.%ld.1", (long)gone);
    mkdir(workdir_path(alive), 0700);
    mkdir(workdir_path(dead), 0700);
    char inner[120];
    snprintf(inner, sizeof inner, "%s/model.safetensors", dead);
    put_file(workdir_path(inner), "half", 4);
    put_file(workdir_path(lost), "x", 1);
    put_file(workdir_path("ck/.mine.tmp.x"), "x", 1);
    /* "best" was set aside by a writer that died before it put the new one there. */
    struct ckpt_sample s;
    ckpt_fill(&s, 3);
    assert_int_equal(qn_checkpoint_write_named(dir, "best", &s.c, NULL), QN_OK);
    assert_int_equal(rename(workdir_path("ck/best"), workdir_path(old)), 0);
    write_step(dir, 1000, 0);
    assert_int_equal(access(workdir_path(alive), F_OK), 0);
    assert_int_equal(access(workdir_path("ck/.mine.tmp.x"), F_OK), 0);
    assert_int_not_equal(access(workdir_path(dead), F_OK), 0);
    assert_int_not_equal(access(workdir_path(lost), F_OK), 0);
    assert_int_not_equal(access(workdir_path(old), F_OK), 0);
    assert_int_equal(qn_checkpoint_verify(workdir_path("ck/best"), NULL), QN_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(nothing_to_save_is_fine),
        cmocka_unit_test(keeps_the_newest),
        cmocka_unit_test(rewriting_a_step_replaces_it),
        cmocka_unit_test(named_checkpoints_are_replaced),
        cmocka_unit_test(refuses_contents_it_could_not_read_back),
        cmocka_unit_test(missing_extra_and_mixed_files),
        cmocka_unit_test(refused_kinds_of_files),
        cmocka_unit_test(malformed_manifests),
        cmocka_unit_test(none_that_verifies),
        cmocka_unit_test(every_truncation),
        cmocka_unit_test(every_bit),
        cmocka_unit_test(state_may_hold_infinities_and_the_model_may_not),
        cmocka_unit_test(lists_what_does_not_match),
        cmocka_unit_test(loads_the_golden_checkpoint),
        cmocka_unit_test(one_job_per_directory),
        cmocka_unit_test(race_for_the_lock),
        cmocka_unit_test(removes_leftovers_of_the_dead_only),
    };
    return cmocka_run_group_tests(tests, workdir_begin, workdir_end);
}
