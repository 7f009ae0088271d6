/* Power loss. The calls of a whole run are recorded; then disks are built as a crash after any of them
 * might leave them: what an fsync covered is there, of everything else any part may be missing, cut or
 * reordered (the model of the ALICE study). Each must restore the last acknowledged checkpoint.
 * Negative controls forget one kind of fsync and must see a checkpoint lost. */
#include "io.h"
#include "ckpt.h"
#include "interpose.h"
#include "../../core/checkpoint.h"

enum kind { CREATE, RENAME, EXCHANGE, UNLINK, WRITE, SYNC, ACK };
enum { MAX_OPS = 4000, MAX_NODES = 600, MAX_ENTRIES = 200, MAX_FDS = 256, ROOT = 0 };

/* A directory operation belongs to `dir`, a write to `node`; SYNC makes all earlier ones of node durable. */
struct op {
    enum kind kind;
    int dir, node, other; /* other: the second node of an exchange */
    char a[64], b[64];
    int64_t offset;
    size_t n;
    char *data;
    int64_t step, best; /* ACK: what is now promised */
};
static struct op ops[MAX_OPS];
static int n_ops, n_nodes, node_of_fd[MAX_FDS];
static bool is_dir[MAX_NODES];
static int64_t written[MAX_NODES];

struct entry {
    int dir, node;
    char name[64];
};
struct tree {
    int n;
    struct entry e[MAX_ENTRIES];
};
static struct tree live;

static int lookup(const struct tree *t, int dir, const char *name)
{
    for (int i = 0; i < t->n; i++)
        if (t->e[i].dir == dir && strcmp(t->e[i].name, name) == 0) return i;
    return -1;
}
static void set(struct tree *t, int dir, const char *name, int node)
{
    int i = lookup(t, dir, name);
    if (i < 0) i = t->n++;
    assert_true(i < MAX_ENTRIES);
    t->e[i].dir = dir;
    t->e[i].node = node;
    snprintf(t->e[i].name, sizeof t->e[i].name, "%s", name);
}
/* Only if it still names that node. */
static void unset(struct tree *t, int dir, const char *name, int node)
{
    int i = lookup(t, dir, name);
    if (i >= 0 && t->e[i].node == node) t->e[i] = t->e[--t->n];
}

static void apply_names(struct tree *t, const struct op *o)
{
    switch (o->kind) {
    case CREATE: set(t, o->dir, o->a, o->node); break;
    case UNLINK: unset(t, o->dir, o->a, o->node); break;
    case RENAME:
        unset(t, o->dir, o->a, o->node);
        set(t, o->dir, o->b, o->node);
        break;
    case EXCHANGE:
        set(t, o->dir, o->a, o->other);
        set(t, o->dir, o->b, o->node);
        break;
    default: break;
    }
}

/* ---- recording ----------------------------------------------------------------------------- */

static struct op *add(enum kind kind, int dir, int node, const char *a)
{
    assert_true(n_ops < MAX_OPS);
    struct op *o = &ops[n_ops++];
    *o = (struct op){ .kind = kind, .dir = dir, .node = node };
    snprintf(o->a, sizeof o->a, "%s", a ? a : "");
    return o;
}

static int dir_node(int fd) { return fd >= 0 && fd < MAX_FDS ? node_of_fd[fd] : -1; }

static void record_open(const struct call *c)
{
    int node = -1, dir = dir_node(c->fd);
    size_t n = strlen(workdir_path("ck"));
    if (c->fd == AT_FDCWD)
        node = strncmp(c->path, workdir_path("ck"), n) == 0 && strlen(c->path) <= n + 1 ? ROOT : -1;
    else if (dir >= 0 && strcmp(c->path, ".") == 0)
        node = dir;
    else if (dir >= 0 && lookup(&live, dir, c->path) >= 0)
        node = live.e[lookup(&live, dir, c->path)].node;
    else if (dir >= 0 && (c->flags & O_CREAT))
        apply_names(&live, add(CREATE, dir, node = n_nodes++, c->path));
    if (c->result < MAX_FDS) node_of_fd[c->result] = node;
}

static void record_rename(const struct call *c, int dir, int node)
{
    struct op *o = add(c->flags ? EXCHANGE : RENAME, dir, node, c->path);
    snprintf(o->b, sizeof o->b, "%s", c->path2);
    if (c->flags) o->other = live.e[lookup(&live, dir, c->path2)].node;
    apply_names(&live, o);
}

static void record(const struct call *c)
{
    if (c->result < 0) return;
    int dir = dir_node(c->fd), at = c->path && dir >= 0 ? lookup(&live, dir, c->path) : -1;
    int node = at >= 0 ? live.e[at].node : -1;
    if (strncmp(c->name, "open", 4) == 0) {
        record_open(c);
    } else if (strcmp(c->name, "close") == 0) {
        if (c->fd < MAX_FDS) node_of_fd[c->fd] = -1;
    } else if (strcmp(c->name, "mkdirat") == 0) {
        is_dir[n_nodes] = true;
        apply_names(&live, add(CREATE, dir, n_nodes++, c->path));
    } else if (strncmp(c->name, "renameat", 8) == 0) {
        record_rename(c, dir, node);
    } else if (strcmp(c->name, "unlinkat") == 0) {
        apply_names(&live, add(UNLINK, dir, node, c->path));
    } else if (dir >= 0 && strcmp(c->name, "fsync") == 0) {
        add(SYNC, -1, dir, NULL);
    } else if (dir >= 0 && strcmp(c->name, "write") == 0) {
        struct op *o = add(WRITE, -1, dir, NULL);
        o->n = (size_t)c->result;
        o->data = malloc(o->n + 1);
        memcpy(o->data, c->data, o->n);
        o->offset = written[dir];
        written[dir] += c->result;
    }
    assert_true(n_nodes < MAX_NODES);
}

static void acknowledge(int64_t step, int64_t best)
{
    struct op *o = add(ACK, -1, -1, NULL);
    o->step = step;
    o->best = best;
}

static int record_run(void **state)
{
    (void)state;
    static const int64_t plan[][3] = { /* step, best, keep */
                                       { 100, 0, 0 },
                                       { 200, 150, 2 },
                                       { 300, 0, 2 },
                                       { 300, 300, 2 },
                                       { 400, 0, 1 }
    };
    struct ckpt_sample s;
    int64_t best = 0;
    if (workdir_begin_in_memory(state) || mkdir(workdir_path("ck"), 0700)) return -1;
    memset(node_of_fd, -1, sizeof node_of_fd);
    is_dir[n_nodes++] = true;
    after_call = record;
    for (size_t i = 0; i < N_OF(plan); i++) {
        ckpt_fill(&s, plan[i][0]);
        if (qn_checkpoint_write(workdir_path("ck"), &s.c, (int)plan[i][2], NULL)) return -1;
        acknowledge(plan[i][0], best);
        if (plan[i][1] == 0) continue;
        ckpt_fill(&s, best = plan[i][1]);
        if (qn_checkpoint_write_named(workdir_path("ck"), "best", &s.c, NULL)) return -1;
        acknowledge(plan[i][0], best);
    }
    after_call = NULL;
    print_message("%d operations on %d files and directories\n", n_ops, n_nodes);
    return 0;
}

/* ---- disks --------------------------------------------------------------------------------- */

enum loss { LOSE_ALL, LOSE_NOTHING, PREFIX, RANDOM, NAMES_ONLY, DATA_ONLY, ZEROES, N_LOSSES };
enum control { HONEST, NO_FILE_SYNC, NO_DIR_SYNC };

static uint64_t seed = 1;
static uint64_t random_next(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* Is operation i on the disk when the power fails before operation `end`? */
static bool durable(int i, int end, enum control control)
{
    int object = ops[i].kind == WRITE ? ops[i].node : ops[i].dir;
    if (control == NO_FILE_SYNC && !is_dir[object]) return false;
    if (control == NO_DIR_SYNC && is_dir[object]) return false;
    for (int j = i + 1; j < end; j++)
        if (ops[j].kind == SYNC && ops[j].node == object) return true;
    return false;
}

static bool survives(int i, enum loss loss, int prefix)
{
    bool name = ops[i].kind != WRITE;
    switch (loss) {
    case LOSE_ALL: return false;
    case LOSE_NOTHING: return true;
    case PREFIX: return i < prefix;
    case RANDOM: return random_next() & 1;
    case DATA_ONLY: return !name;
    default: return name;
    }
}

struct disk {
    struct tree names;
    char *data[MAX_NODES];
    size_t n[MAX_NODES];
};

static void put_data(struct disk *d, const struct op *o, bool zeroes, size_t n)
{
    size_t end = (size_t)o->offset + n;
    if (end > d->n[o->node]) {
        d->data[o->node] = realloc(d->data[o->node], end);
        memset(d->data[o->node] + d->n[o->node], 0, end - d->n[o->node]);
        d->n[o->node] = end;
    }
    if (!zeroes && n) memcpy(d->data[o->node] + o->offset, o->data, n);
}

static void build(struct disk *d, int end, enum loss loss, enum control control)
{
    int prefix = (int)(random_next() % (unsigned)(end + 1));
    memset(d, 0, sizeof *d);
    for (int i = 0; i < end; i++) {
        const struct op *o = &ops[i];
        if (o->kind == SYNC || o->kind == ACK) continue;
        bool safe = durable(i, end, control), kept = safe || survives(i, loss, prefix);
        if (o->kind != WRITE) {
            if (kept) apply_names(&d->names, o);
        } else if (kept) {
            /* A write that nothing covers may also be cut. */
            put_data(d, o, false, safe || loss != RANDOM ? o->n : random_next() % (o->n + 1));
        } else if (loss == ZEROES) {
            put_data(d, o, true, o->n); /* the size arrived, the contents did not */
        }
    }
}

static void put_tree(const struct disk *d, int dir, const char *path)
{
    mkdir(path, 0700);
    for (int i = 0; i < d->names.n; i++) {
        const struct entry *e = &d->names.e[i];
        char inner[600];
        if (e->dir != dir) continue;
        snprintf(inner, sizeof inner, "%s/%s", path, e->name);
        if (is_dir[e->node])
            put_tree(d, e->node, inner);
        else
            put_file(inner, d->data[e->node], d->n[e->node]);
    }
}

/* What was promised by the operations before end. */
static void promised(int end, int64_t *step, int64_t *best)
{
    *step = *best = 0;
    for (int i = 0; i < end; i++)
        if (ops[i].kind == ACK) {
            *step = ops[i].step;
            *best = ops[i].best;
        }
}

static bool restores(const char *dir, int64_t step, int64_t best)
{
    qn_checkpoint *ck;
    int skipped;
    bool good = true;
    char path[600];
    if (step > 0) {
        if (qn_checkpoint_open_newest(&ck, dir, &skipped, NULL, NULL, NULL)) return false;
        good = skipped == 0 && qn_checkpoint_step(ck) >= step && ckpt_is_sample(ck);
        qn_checkpoint_close(ck);
    }
    snprintf(path, sizeof path, "%s/best", dir);
    if (best > 0 && good) {
        if (qn_checkpoint_open(&ck, path, NULL)) return false;
        good = qn_checkpoint_step(ck) >= best && ckpt_is_sample(ck);
        qn_checkpoint_close(ck);
    }
    return good;
}

static bool crash(int end, enum loss loss, enum control control)
{
    static struct disk d;
    int64_t step, best;
    const char *path = workdir_path("disk");
    build(&d, end, loss, control);
    put_tree(&d, ROOT, path);
    promised(end, &step, &best);
    bool good = restores(path, step, best);
    for (int i = 0; i < n_nodes; i++) free(d.data[i]);
    if (good || control != HONEST) workdir_remove(workdir_path("disk"));
    if (!good && control == HONEST)
        print_error("power loss before operation %d, loss %d, seed %llu: promised step %lld, best %lld\n", end,
                    (int)loss, (unsigned long long)seed, (long long)step, (long long)best);
    return good;
}

static void nothing_acknowledged_is_lost(void **state)
{
    (void)state;
    const char *l = getenv("QN_TEST_LONG");
    int repeats = l && strcmp(l, "1") == 0 ? 50 : 1, states = 0;
    for (int end = 0; end <= n_ops; end++)
        for (int loss = 0; loss < N_LOSSES; loss++)
            for (int r = 0; r < repeats; r++, states++) assert_true(crash(end, (enum loss)loss, HONEST));
    print_message("%d disks, each restores what was acknowledged\n", states);
    assert_true(states >= 50);
}

/* The model must be able to fail: without the fsync of files, or of directories, something is lost. */
static void without_fsync_something_is_lost(void **state)
{
    (void)state;
    for (int control = NO_FILE_SYNC; control <= NO_DIR_SYNC; control++) {
        int lost = 0;
        for (int end = 0; end <= n_ops; end += 7)
            for (int loss = 0; loss < N_LOSSES; loss++) lost += !crash(end, (enum loss)loss, (enum control)control);
        assert_true(lost > 10);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_acknowledged_is_lost),
        cmocka_unit_test(without_fsync_something_is_lost),
    };
    int failed = cmocka_run_group_tests(tests, record_run, workdir_end);
    for (int i = 0; i < n_ops; i++) free(ops[i].data);
    return failed;
}
