/* test_plan.c - where memory is placed for steps that go into one launch and for steps of other streams, and that the
 * proof of a plan notices when it is not. (That plans of networks are right is shown wherever check_plan is set.) */
#include "../../core/plan.h"
#include "../../core/backend.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

enum { MEMBERS = 4, MAX = 64, ELEMENTS = 1000, WORKSPACE = 4000 };

/* total = sum of the squares of relu(x[i]): MEMBERS steps with a workspace each, one behind the other. */
struct made {
    qn_graph *g;
    int32_t square[MEMBERS], total; /* nodes */
    int32_t order[MAX], position[MAX], group[MAX];
    struct qn__step step[MAX];
    enum qn__stream stream[MAX];
    size_t workspace[MAX];
    bool kept[MAX];
    struct qn__slot slot[2 * MAX];
    struct qn__plan plan;
};

static qn_status launch_many(const struct qn__step *const *s, int n, qn_error *err)
{
    (void)s, (void)n, (void)err;
    return QN_OK;
}

/* chained: each works on the result of the one before. */
static void build(struct made *m, bool chained)
{
    static const char *const names[MEMBERS] = { "a", "b", "c", "d" };
    qn_t rectified[MEMBERS], square = { 0 }, total = { 0 };
    memset(m, 0, sizeof *m);
    assert_int_equal(qn_graph_new(&m->g, NULL), QN_OK);
    for (int i = 0; i < MEMBERS; i++)
        rectified[i] = qn_relu(m->g, qn_input(m->g, names[i], QN_F32, 1, (int64_t[]){ ELEMENTS }));
    for (int i = 0; i < MEMBERS; i++) {
        square = qn_sum_squares(m->g, chained && i ? square : rectified[i]);
        m->square[i] = square.id;
    }
    for (int i = 0; i < MEMBERS; i++) {
        qn_t x = { m->square[i] };
        total = i ? qn_add(m->g, total, x) : x;
    }
    m->total = total.id;
    if (qn_graph_status(m->g)) fail_msg("%s", qn_graph_error(m->g)->text);
    assert_true(m->g->n < MAX);
}

static void plan(struct made *m, bool grouped)
{
    static const struct qn__kernel kernel = { .launch_many = launch_many };
    qn_error err = { 0 };
    int32_t n = m->g->n - 1;
    for (int32_t k = 0; k < n; k++) {
        m->order[k] = k + 1;
        m->position[k + 1] = k;
        m->group[k] = 1;
        m->step[k].kernel = NULL;
    }
    for (int i = 0; i < MEMBERS; i++) {
        m->step[m->position[m->square[i]]].kernel = &kernel;
        m->workspace[m->position[m->square[i]]] = WORKSPACE;
    }
    m->kept[m->total] = true;
    if (grouped) qn__plan_groups(m->g, m->order, m->step, n, n, m->group);
    m->plan = (struct qn__plan){ .g = m->g,
                                 .position = m->position,
                                 .n_steps = n,
                                 .workspace = m->workspace,
                                 .kept = m->kept,
                                 .reuse = true,
                                 .group = m->group,
                                 .stream = m->stream,
                                 .slot = m->slot };
    if (qn__plan_make(&m->plan, &qn__std_alloc, &err)) fail_msg("%s", err.text);
}

static void good(struct made *m)
{
    qn_error err = { 0 };
    if (qn__plan_verify(&m->plan, m->order, &qn__std_alloc, &err)) fail_msg("%s", err.text);
}

static void bad(struct made *m, const char *says)
{
    qn_error err = { 0 };
    assert_int_not_equal(qn__plan_verify(&m->plan, m->order, &qn__std_alloc, &err), QN_OK);
    assert_int_equal(err.code, 7070);
    if (!strstr(err.text, says)) fail_msg("\"%s\" does not say \"%s\"", err.text, says);
}

static int32_t at(const struct made *m, int i) { return m->position[m->square[i]]; }

/* The workspace of a member. */
static struct qn__slot *space(struct made *m, int i) { return &m->slot[m->g->n + at(m, i)]; }

static bool overlap(const struct qn__slot *a, const struct qn__slot *b)
{
    return a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
}

/* ---- tests ----- */

static void steps_that_do_not_meet_are_a_group(void **state)
{
    static struct made m;
    (void)state;
    build(&m, false);
    plan(&m, true);
    for (int32_t k = 0; k < m.plan.n_steps; k++) {
        bool member = k > at(&m, 0) && k <= at(&m, MEMBERS - 1);
        assert_int_equal(m.group[k], k == at(&m, 0) ? MEMBERS : !member);
    }
    qn_graph_free(m.g);
    build(&m, true);
    plan(&m, true);
    for (int32_t k = 0; k < m.plan.n_steps; k++) assert_int_equal(m.group[k], 1);
    qn_graph_free(m.g);
}

static void a_group_does_not_end_a_phase_later(void **state)
{
    static struct made m;
    (void)state;
    build(&m, false);
    plan(&m, false);
    qn__plan_groups(m.g, m.order, m.step, at(&m, 1), m.plan.n_steps, m.group); /* one in the first phase */
    assert_int_equal(m.group[at(&m, 0)], 1);
    assert_int_equal(m.group[at(&m, 1)], MEMBERS - 1);
    qn_graph_free(m.g);
}

static void members_of_a_group_have_bytes_of_their_own(void **state)
{
    static struct made m;
    (void)state;
    build(&m, false);
    plan(&m, false); /* one after another: the same workspace again and again */
    good(&m);
    assert_int_equal(space(&m, 1)->offset, space(&m, 2)->offset);
    assert_int_equal(m.plan.workspace_most, space(&m, 1)->bytes);
    size_t bytes = m.plan.work;
    qn__plan_groups(m.g, m.order, m.step, m.plan.n_steps, m.plan.n_steps, m.group);
    bad(&m, "of the same launch works");
    plan(&m, true);
    good(&m);
    assert_true(m.plan.work > bytes);
    assert_int_equal(m.plan.workspace_most, MEMBERS * space(&m, 1)->bytes);
    for (int i = 0; i < MEMBERS; i++)
        for (int k = 0; k < MEMBERS; k++) {
            assert_false(i != k && overlap(space(&m, i), space(&m, k)));
            assert_false(overlap(&m.slot[m.square[i]], space(&m, k)));
            assert_false(overlap(&m.slot[m.square[i]], &m.slot[m.g->node[m.square[k]].in[0]]));
        }
    space(&m, 2)->offset = m.slot[m.square[0]].offset; /* a result of the same launch */
    bad(&m, "plan: ");
    qn_graph_free(m.g);
}

static void another_stream_has_bytes_of_its_own(void **state)
{
    static struct made m;
    (void)state;
    build(&m, false);
    plan(&m, false);
    m.stream[at(&m, 1)] = QN_STREAM_COMM;
    bad(&m, "of another stream");
    plan(&m, false);
    good(&m);
    const struct qn__slot *own[] = { &m.slot[m.square[1]], space(&m, 1), &m.slot[m.g->node[m.square[1]].in[0]] };
    for (int i = 0; i < 3; i++)
        for (int32_t k = 1; k < m.g->n + m.plan.n_steps; k++)
            if (m.slot[k].place == QN_PLACE_WORK && &m.slot[k] != own[i]) assert_false(overlap(own[i], &m.slot[k]));
    qn_graph_free(m.g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_that_do_not_meet_are_a_group),
        cmocka_unit_test(a_group_does_not_end_a_phase_later),
        cmocka_unit_test(members_of_a_group_have_bytes_of_their_own),
        cmocka_unit_test(another_stream_has_bytes_of_its_own),
    };
    return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
