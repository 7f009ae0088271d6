/* The one door to the file system: what it refuses, and that a failed write leaves the old file. */
#include "io.h"
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

static void opens_regular_files_only(void **state)
{
    (void)state;
    struct qn__file f;
    qn_error err = { 0 };
    int fds = open_fds();
    assert_int_equal(qn__file_open(&f, workdir_path("absent"), &err), QN_EIO);
    assert_line(&err, "error E6001 io: ~/absent: open: No such file or directory");
    assert_int_equal(qn__file_open(&f, workdir, &err), QN_EIO);
    assert_line(&err, "error E6001 io: ~: open: is a directory; expected a regular file");
    assert_int_equal(mkfifo(workdir_path("fifo"), 0600), 0);
    assert_int_equal(qn__file_open(&f, workdir_path("fifo"), &err), QN_EIO); /* must not hang */
    assert_line(&err, "error E6001 io: ~/fifo: open: is a FIFO; expected a regular file");
    assert_int_equal(qn__file_open(&f, "/dev/zero", &err), QN_EIO);
    assert_line(&err, "error E6001 io: /dev/zero: open: is a device; expected a regular file");
    assert_int_equal(qn__file_open(&f, "", &err), QN_EIO);
    put_file(workdir_path("five"), "12345", 5);
    assert_int_equal(qn__file_open(&f, workdir_path("five"), &err), QN_OK);
    assert_int_equal(f.size, 5);
    qn__file_close(&f);
    qn__file_close(&f);
    assert_int_equal(open_fds(), fds);
}

static void reads_exactly(void **state)
{
    (void)state;
    struct qn__file f;
    qn_error err = { 0 };
    char buffer[8] = "";
    put_file(workdir_path("read"), "0123456789", 10);
    assert_int_equal(qn__file_open(&f, workdir_path("read"), &err), QN_OK);
    assert_int_equal(qn__file_read(&f, 4, buffer, 6, &err), QN_OK);
    assert_memory_equal(buffer, "456789", 6);
    assert_int_equal(qn__file_read(&f, 4, buffer, 7, &err), QN_EIO);
    assert_line(&err, "error E6001 io: ~/read@10: read: the file ends here; expected 1 more bytes");
    assert_int_equal(truncate(workdir_path("read"), 2), 0); /* shrinks while open: an error, not SIGBUS */
    assert_int_equal(qn__file_read(&f, 0, buffer, 6, &err), QN_EIO);
    assert_int_equal(err.offset, 2);
    qn__file_close(&f);
}

static void reads_whole_files_up_to_a_cap(void **state)
{
    (void)state;
    char *text;
    size_t n;
    qn_error err = { 0 };
    put_file(workdir_path("all"), "hello", 5);
    assert_int_equal(qn__file_read_all(NULL, workdir_path("all"), 5, &text, &n, &err), QN_OK);
    assert_int_equal(n, 5);
    assert_string_equal(text, "hello");
    qn__free(NULL, text, n + 1);
    assert_int_equal(qn__file_read_all(NULL, workdir_path("all"), 4, &text, &n, &err), QN_EIO);
    assert_line(&err, "error E6001 io: ~/all: 5 bytes; expected at most 4");
    assert_null(text);
    put_file(workdir_path("empty"), "", 0);
    assert_int_equal(qn__file_read_all(NULL, workdir_path("empty"), 4, &text, &n, &err), QN_OK);
    assert_string_equal(text, "");
    qn__free(NULL, text, 1);
}

/* ONNX needed three patches in four years for this table. */
static void stays_beneath_its_directory(void **state)
{
    (void)state;
    static const struct {
        const char *name, *reason;
    } cases[] = {
        { "", "is empty; expected a file name" },
        { "/etc/passwd", "is absolute; expected a name inside the directory" },
        { "..", "contains \"..\"; expected a name inside the directory" },
        { "../outside", "contains \"..\"; expected a name inside the directory" },
        { "sub/../../outside", "contains \"..\"; expected a name inside the directory" },
        { "sub/..", "contains \"..\"; expected a name inside the directory" },
        { "sub//good", "has an empty part; expected a name inside the directory" },
        { "sub/", "has an empty part; expected a name inside the directory" },
        { "link", "is or passes a symbolic link; expected a regular file" },
        { "dirlink/good", "is or passes a symbolic link; expected a regular file" },
        { "hard", "has several hard links; expected one" },
        { "fifo", "is a FIFO; expected a regular file" },
        { "sub", "is a directory; expected a regular file" },
        { "socket", "No such device or address" },
        { "absent", "No such file or directory" },
        { "sub/good", NULL },
        { "..good", NULL },
        { "./..good", NULL },
    };
    char path[300];
    mkdir(workdir_path("beneath"), 0700);
    mkdir(workdir_path("beneath/sub"), 0700);
    put_file(workdir_path("outside"), "secret", 6);
    put_file(workdir_path("beneath/sub/good"), "x", 1);
    put_file(workdir_path("beneath/..good"), "x", 1);
    put_file(workdir_path("beneath/hard"), "x", 1);
    assert_int_equal(link(workdir_path("beneath/hard"), workdir_path("beneath/hard2")), 0);
    assert_int_equal(symlink("sub/good", workdir_path("beneath/link")), 0);
    assert_int_equal(symlink("sub", workdir_path("beneath/dirlink")), 0);
    assert_int_equal(mkfifo(workdir_path("beneath/fifo"), 0600), 0);
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof address.sun_path, "%s/beneath/socket", workdir);
    int s = socket(AF_UNIX, SOCK_STREAM, 0), dir;
    assert_int_equal(bind(s, (struct sockaddr *)&address, sizeof address), 0);
    close(s);
    snprintf(path, sizeof path, "%s/beneath", workdir);
    assert_int_equal(qn__file_open_dir(&dir, path, NULL), QN_OK);
    int fds = open_fds();
    for (size_t i = 0; i < N_OF(cases); i++) {
        struct qn__file f;
        const char *reason = qn__file_open_beneath(&f, dir, cases[i].name, true, cases[i].name);
        if (cases[i].reason)
            assert_string_equal(reason ? reason : "(accepted)", cases[i].reason);
        else
            assert_null(reason);
        qn__file_close(&f);
        assert_int_equal(open_fds(), fds);
    }
    struct qn__file f;
    assert_null(qn__file_open_beneath(&f, dir, "hard", false, "hard"));
    qn__file_close(&f);
    qn__file_close_fd(dir);
}

/* What kernels before 5.6 get. */
static void walk_refuses_links_too(void **state)
{
    (void)state;
    int dir;
    assert_int_equal(qn__file_open_dir(&dir, workdir_path("beneath"), NULL), QN_OK);
    int fds = open_fds();
    assert_int_equal(qn__file_walk_beneath(dir, "link"), -ELOOP);
    assert_int_equal(qn__file_walk_beneath(dir, "dirlink/good"), -ELOOP);
    assert_int_equal(qn__file_walk_beneath(dir, "sub/absent"), -ENOENT);
    assert_int_equal(open_fds(), fds);
    int fd = qn__file_walk_beneath(dir, "sub/good");
    assert_true(fd >= 0);
    close(fd);
    qn__file_close_fd(dir);
}

static void replaces_atomically(void **state)
{
    (void)state;
    qn_error err = { 0 };
    size_t n;
    mkdir(workdir_path("w"), 0700);
    put_file(workdir_path("w/f"), "old", 3);
    struct qn__file_out f;
    int fds = open_fds();
    assert_int_equal(qn__file_create(&f, workdir_path("w/f"), 100, &err), QN_OK);
    assert_int_equal(qn__file_write(&f, "newer", 5, &err), QN_OK);
    char *text = get_file(workdir_path("w/f"), &n); /* until the commit the old file is the file */
    assert_string_equal(text, "old");
    free(text);
    assert_int_equal(qn__file_commit(&f, &err), QN_OK);
    text = get_file(workdir_path("w/f"), &n);
    assert_string_equal(text, "newer");
    struct stat st;
    assert_int_equal(stat(workdir_path("w/f"), &st), 0);
    assert_true(st.st_blocks * 512 <= 4096); /* what was reserved for nothing is given back */
    free(text);
    assert_int_equal(qn__file_create(&f, workdir_path("w/f"), 0, &err), QN_OK);
    assert_int_equal(qn__file_write(&f, "lost", 4, &err), QN_OK);
    qn__file_discard(&f);
    qn__file_discard(&f);
    text = get_file(workdir_path("w/f"), &n);
    assert_string_equal(text, "newer");
    free(text);
    assert_int_equal(entries_in(workdir_path("w")), 1);
    assert_int_equal(open_fds(), fds);
}

static void refuses_to_replace_other_things(void **state)
{
    (void)state;
    struct qn__file_out f;
    qn_error err = { 0 };
    assert_int_equal(qn__file_create(&f, "/dev/null", 0, &err), QN_EIO);
    assert_line(&err, "error E6002 io: /dev/null: create: is a device; expected a regular file");
    assert_int_equal(symlink("elsewhere", workdir_path("w/link")), 0);
    assert_int_equal(qn__file_create(&f, workdir_path("w/link"), 0, &err), QN_EIO);
    assert_line(&err, "error E6002 io: ~/w/link: create: is a symbolic link; expected a regular file");
    assert_int_equal(qn__file_create(&f, workdir_path("w/"), 0, &err), QN_EIO);
    assert_line(&err, "error E6002 io: ~/w/: create: not a file name; expected one");
    assert_int_equal(qn__file_create(&f, workdir_path("no/f"), 0, &err), QN_EIO);
    assert_line(&err, "error E6002 io: ~/no/f: create: No such file or directory");
    assert_int_equal(qn__file_create(&f, workdir_path("w/f/g"), 0, &err), QN_EIO);
    assert_line(&err, "error E6002 io: ~/w/f/g: create: Not a directory");
    unlink(workdir_path("w/link"));
    int dir;
    assert_int_equal(qn__file_open_dir(&dir, workdir_path("w"), &err), QN_OK);
    assert_int_equal(qn__file_create_at(&f, dir, "f", 0, "w/f", &err), QN_EIO);
    assert_line(&err, "error E6002 io: w/f@0: create: File exists");
    assert_int_equal(qn__file_create_at(&f, dir, "../f", 0, "w/../f", &err), QN_EIO);
    assert_line(&err, "error E6002 io: w/../f: create: name contains \"/\"");
    qn__file_close_fd(dir);
}

static void says_when_the_disk_is_full(void **state)
{
    (void)state;
    struct qn__file_out f;
    qn_error err = { 0 };
    assert_int_equal(qn__file_append(&f, "/dev/full", &err), QN_OK);
    assert_int_equal(qn__file_write(&f, "line\n", 5, &err), QN_EIO);
    assert_line(&err, "error E6002 io: /dev/full@0: write: No space left on device (needs 5 more)");
    qn__file_discard(&f);
}

/* The limit must be an error line and not a SIGXFSZ that kills the job. */
static void says_when_the_file_may_not_grow(void **state)
{
    (void)state;
    struct rlimit old, small = { 1000, 1000 };
    struct qn__file_out f;
    qn_error err = { 0 };
    char data[600] = "";
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(qn__file_create(&f, workdir_path("w/f"), 2000, &err), QN_EIO);
    assert_line(&err, "error E6002 io: ~/w/f@0: write: File too large (needs 2000 more)");
    assert_int_equal(qn__file_create(&f, workdir_path("w/f"), 0, &err), QN_OK);
    assert_int_equal(qn__file_write(&f, data, sizeof data, &err), QN_OK);
    assert_int_equal(qn__file_write(&f, data, sizeof data, &err), QN_EIO);
    assert_line(&err, "error E6002 io: ~/w/f@600: write: File too large (needs 600 more)");
    qn__file_discard(&f);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(entries_in(workdir_path("w")), 1);
}

static void appends_lines(void **state)
{
    (void)state;
    struct qn__file_out f;
    qn_error err = { 0 };
    for (int i = 0; i < 2; i++) {
        assert_int_equal(qn__file_append(&f, workdir_path("log"), &err), QN_OK);
        assert_int_equal(f.at, i * 4);
        assert_int_equal(qn__file_write(&f, "abc\n", 4, &err), QN_OK);
        assert_int_equal(qn__file_commit(&f, &err), QN_OK);
    }
    char *text = get_file(workdir_path("log"), NULL);
    assert_string_equal(text, "abc\nabc\n");
    free(text);
    assert_int_equal(qn__file_append(&f, workdir_path("fifo"), &err), QN_EIO); /* no reader: no hang */
    assert_int_equal(qn__file_append(&f, workdir, &err), QN_EIO);
    assert_line(&err, "error E6002 io: ~: open: Is a directory");
}

static void long_names_work(void **state)
{
    (void)state;
    char name[260], path[400];
    qn_error err = { 0 };
    memset(name, 'n', 255);
    name[255] = 0;
    snprintf(path, sizeof path, "%s/%s", workdir, name);
    assert_int_equal(qn__file_replace(path, "x", 1, &err), QN_OK);
    name[255] = 'n';
    name[256] = 0;
    snprintf(path, sizeof path, "%s/%s", workdir, name);
    assert_int_equal(qn__file_replace(path, "x", 1, &err), QN_EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_regular_files_only),
        cmocka_unit_test(reads_exactly),
        cmocka_unit_test(reads_whole_files_up_to_a_cap),
        cmocka_unit_test(stays_beneath_its_directory),
        cmocka_unit_test(walk_refuses_links_too),
        cmocka_unit_test(replaces_atomically),
        cmocka_unit_test(refuses_to_replace_other_things),
        cmocka_unit_test(says_when_the_disk_is_full),
        cmocka_unit_test(says_when_the_file_may_not_grow),
        cmocka_unit_test(appends_lines),
        cmocka_unit_test(long_names_work),
    };
    return cmocka_run_group_tests(tests, workdir_begin, workdir_end);
}
