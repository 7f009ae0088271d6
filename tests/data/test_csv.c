/* test_csv.c - tables: columns, policies, statistics, and every way in which they can be wrong
 * (row A3). */
#include "aid.h"
#include <locale.h>
#include <math.h>

static qn_status parse_with(const char *text, size_t n, const qn_csv_options *o, qn_dataset **ds, qn_error *err)
{
    qn_dataset *made = NULL;
    qn_status status = qn__csv_parse(&made, text, n, "d.csv", o, err);
    if (ds)
        *ds = made;
    else
        qn_dataset_free(made);
    return status;
}

static void expect_n(const char *text, size_t n, const qn_csv_options *o, const char *line)
{
    qn_error err = { 0 }, again = { 0 };
    qn_status status = parse_with(text, n, o, NULL, &err);
    assert_int_not_equal(status, QN_OK);
    assert_int_equal(status, qn_error_status(&err));
    aid_error(&err, line);
    assert_int_not_equal(parse_with(text, n, o, NULL, &again), QN_OK);
    assert_string_equal(err.text, again.text);
}
static void expect(const char *text, const qn_csv_options *o, const char *line)
{
    expect_n(text, strlen(text), o, line);
}

static void names_bad_numbers(void **state)
{
    (void)state;
    const qn_csv_options semi = { .delimiter = ';' };
    expect("name,age\n1,2\n7,3o\n", NULL, "error E3031 data: d.csv:3:3: column \"age\": \"3o\"; expected a number");
    expect("a\n0x10\n", NULL, "error E3031 data: d.csv:2:1: column \"a\": \"0x10\"; expected a number");
    expect("a;b\n1;1,5\n", &semi, "error E3031 data: d.csv:2:3: column \"b\": \"1,5\"; expected a number");
    expect("a\nnan\n", NULL, "error E3033 data: d.csv:2:1: column \"a\": \"nan\"; expected a finite number");
    expect("a\n-Inf\n", NULL, "error E3033 data: d.csv:2:1: column \"a\": \"-Inf\"; expected a finite number");
    expect("a\n1e999\n", NULL, "error E3033 data: d.csv:2:1: column \"a\": \"1e999\"; expected a number below 1.8e308");
    expect("a,b\n1,\n", NULL,
           "error E3034 data: d.csv:2:3: column \"b\": \"\"; expected a value (or a policy for missing ones)");
    expect("a\n\xff\x01\n", NULL, "error E3031 data: d.csv:2:1: column \"a\": \"\\xFF\\x01\"; expected a number");
}

static void names_bad_structure(void **state)
{
    (void)state;
    expect("", NULL, "error E3001 data: d.csv: empty; expected rows");
    expect("\n\n", NULL, "error E3001 data: d.csv: only blank lines; expected rows");
    expect("a,b\n", NULL, "error E3054 data: d.csv: a header and no rows; expected at least 1");
    expect("a,b\n1,2\n3\n", NULL, "error E3032 data: d.csv:3: 1 fields; expected 2 as in the first row");
    expect("a,b\n1,2,3\n", NULL, "error E3032 data: d.csv:2: 3 fields; expected 2 as in the first row");
    expect("a\n1\n\"2\n3\n", NULL,
           "error E3032 data: d.csv:3:1: quote is never closed; expected \" before the end of the file");
    expect("a\n1\"2\n", NULL, "error E3032 data: d.csv:2:2: quote inside a field; expected the whole field in quotes");
    expect("a\n\"1\"2\n", NULL, "error E3032 data: d.csv:2:4: text behind a closing quote; expected a delimiter");
    expect_n("a\n1\0\n", 5, NULL, "error E3032 data: d.csv:2:2: NUL byte; expected text");
    expect_n("\xff\xfe\141\0", 4, NULL, "error E3032 data: d.csv@0: encoding: UTF-16; expected UTF-8");
}

/* A row of exactly the limit is read, one byte more is not; nothing near the size of the row is
 * stored. */
static void caps_rows(void **state)
{
    (void)state;
    enum { CAP = 1 << 20 };
    char *text = malloc(CAP + 8);
    const qn_csv_options o = { .no_header = true, .label = "0", .numeric = &(const char *){ "1" }, .n_numeric = 1 };
    assert_non_null(text);
    memset(text, 'a', CAP);
    memcpy(text + CAP - 2, ",1\n", 3);
    assert_int_equal(parse_with(text, CAP + 1, &o, NULL, NULL), QN_OK);
    memset(text, 'a', CAP + 1);
    memcpy(text + CAP - 1, ",1\n", 3);
    expect_n(text, CAP + 2, &o, "error E3032 data: d.csv:1: row is longer than 1048576 bytes; expected a shorter one");
    free(text);
}

static void names_columns(void **state)
{
    (void)state;
    const char *age = "agee", *two = "#7";
    const char *dup = "a";
    expect("name,age\n1,2\n", &(qn_csv_options){ .numeric = &age, .n_numeric = 1 },
           "error E3035 data: d.csv:1: column \"agee\" not found among 2; did you mean \"age\"?");
    expect("a,b\n1,2\n", &(qn_csv_options){ .numeric = &two, .n_numeric = 1 },
           "error E3035 data: d.csv:1: column \"#7\" not found among 2");
    expect("a,a\n1,2\n", &(qn_csv_options){ .numeric = &dup, .n_numeric = 1 },
           "error E3035 data: d.csv:1: column \"a\" appears twice; expected once, or an index such as #0");
    expect("a,b\n1,2\n", &(qn_csv_options){ .numeric = &dup, .n_numeric = 1, .label = "a" },
           "error E3035 data: d.csv:1: column \"a\" is named for two purposes; expected one");
    expect("a\n1\n", &(qn_csv_options){ .label = "a" },
           "error E3035 data: d.csv: no feature columns; expected at least 1");
}

static void names_bad_labels(void **state)
{
    (void)state;
    const qn_csv_options o = { .label = "y", .n_classes = 3 };
    expect("x,y\n1,two\n", &o, "error E3042 data: d.csv:2:3: label: \"two\"; expected an integer");
    expect("x,y\n1,1.0\n", &o, "error E3042 data: d.csv:2:3: label: \"1.0\"; expected an integer");
    expect("x,y\n1,3\n", &o, "error E3041 data: d.csv:2:3: label: label 3; expected 0..2");
    expect("x,y\n1,-1\n", &o, "error E3041 data: d.csv:2:3: label: label -1; expected 0..2");
    expect("x,y\n1,9223372036854775808\n", &o,
           "error E3042 data: d.csv:2:3: label: \"9223372036854775808\"; expected an integer");
    expect("x,y\n1,\n", &o, "error E3034 data: d.csv:2:3: label: \"\"; expected a class");
}

/* The same table in every dress that RFC 4180 and its abusers know. */
static void reads_every_dress(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "x,y,c\n1,2.5,a\n3,-4,b\n",
        "x,y,c\r\n1,2.5,a\r\n3,-4,b\r\n",
        "x,y,c\r1,2.5,a\r3,-4,b",
        "\xef\xbb\xbfx,y,c\n1,2.5,a\n3,-4,b",
        "\"x\",\"y\",c\n\"1\",2.5,\"a\"\n3,\"-4\",b\n",
        "x, y ,c\n\n 1 ,2.5,a\n\n3,\t-4e0, \"b\" \n\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        qn_dataset *ds;
        qn_error err = { 0 };
        float x[2];
        assert_int_equal(parse_with(texts[i], strlen(texts[i]), &(qn_csv_options){ .label = "c" }, &ds, &err), QN_OK);
        assert_int_equal(qn_dataset_count(ds), 2);
        assert_int_equal(qn_dataset_read(ds, 1, x, &err), QN_OK);
        assert_true(x[0] == 3 && x[1] == -4);
        assert_int_equal(qn_dataset_label(ds, 1), 1);
        assert_string_equal(qn_dataset_transform(ds)->class_name[0], "a");
        qn_dataset_free(ds);
    }
}

static void quotes_keep_everything(void **state)
{
    (void)state;
    static const char text[] = "c,x\n\"say \"\"a,\nb\"\"\",1\nplain,2\n";
    qn_dataset *ds;
    assert_int_equal(parse_with(text, strlen(text), &(qn_csv_options){ .label = "c" }, &ds, NULL), QN_OK);
    assert_string_equal(qn_dataset_transform(ds)->class_name[1], "say \"a,\nb\"");
    char name[64];
    assert_string_equal(qn_dataset_sample_name(ds, 1, name, sizeof name), "d.csv, line 4");
    qn_dataset_free(ds);
}

static void classes_are_sorted_as_numbers(void **state)
{
    (void)state;
    static const char text[] = "x,c\n0,10\n0,9\n0,10\n";
    qn_dataset *ds;
    assert_int_equal(parse_with(text, strlen(text), &(qn_csv_options){ .label = "c" }, &ds, NULL), QN_OK);
    assert_string_equal(qn_dataset_transform(ds)->class_name[0], "9");
    assert_int_equal(qn_dataset_label(ds, 0), 1);
    qn_dataset_free(ds);
}

static void near(float a, double b)
{
    if (fabs((double)a - b) > 1e-6 * (1 + fabs(b))) fail_msg("%.9g is not %.9g", (double)a, b);
}

static void fills_missing_values(void **state)
{
    (void)state;
    static const char text[] = "x,y\n1,1\n,1\n3,1\nNA,1\n8,1\n";
    static const struct {
        qn_missing how;
        int64_t n;
        double second;
    } cases[] = { { QN_MISSING_DROP, 3, 3 }, { QN_MISSING_MEAN, 5, 4 }, { QN_MISSING_MEDIAN, 5, 3 } };
    for (size_t i = 0; i < 3; i++) {
        qn_dataset *ds;
        float x[2];
        assert_int_equal(parse_with(text, strlen(text), &(qn_csv_options){ .missing = cases[i].how }, &ds, NULL),
                         QN_OK);
        assert_int_equal(qn_dataset_count(ds), cases[i].n);
        assert_int_equal(qn_dataset_read(ds, 1, x, NULL), QN_OK);
        near(x[0], cases[i].second);
        qn_dataset_free(ds);
    }
    const qn_csv_options nan = { .missing = QN_MISSING_MEAN, .nonfinite_is_missing = true };
    qn_dataset *ds;
    float x;
    assert_int_equal(parse_with("x\n1\nnan\n-inf\n5\n", 15, &nan, &ds, NULL), QN_OK);
    assert_int_equal(qn_dataset_read(ds, 2, &x, NULL), QN_OK);
    near(x, 3);
    qn_dataset_free(ds);
}

static void clips_and_standardises(void **state)
{
    (void)state;
    static const char text[] = "x\n1\n2\n3\n4\n100\n";
    qn_dataset *ds;
    float x;
    /* quartiles 2 and 4: fences -1 and 7, so 100 becomes 7 */
    assert_int_equal(parse_with(text, strlen(text), &(qn_csv_options){ .clip = QN_CLIP_IQR }, &ds, NULL), QN_OK);
    assert_int_equal(qn_dataset_read(ds, 4, &x, NULL), QN_OK);
    near(x, 7);
    qn_dataset_free(ds);
    /* mean 22, population std 39.0128 : one std up is 61.0128 */
    const qn_csv_options z = { .clip = QN_CLIP_ZSCORE, .clip_limit = 1 };
    assert_int_equal(parse_with(text, strlen(text), &z, &ds, NULL), QN_OK);
    assert_int_equal(qn_dataset_read(ds, 4, &x, NULL), QN_OK);
    near(x, 22 + sqrt((21 * 21 + 20 * 20 + 19 * 19 + 18 * 18 + 78 * 78) / 5.0));
    qn_dataset_free(ds);
    assert_int_equal(parse_with("x,k\n1,5\n3,5\n", 12, &(qn_csv_options){ .standardise = true }, &ds, NULL), QN_OK);
    float row[2];
    assert_int_equal(qn_dataset_read(ds, 1, row, NULL), QN_OK);
    near(row[0], 1);
    near(row[1], 0); /* a constant column has std 1, not a division by zero */
    qn_dataset_free(ds);
}

/* What a checkpoint carries does to one row what the data set does to its own. */
static void transforms_one_row(void **state)
{
    (void)state;
    static const char text[] = "city,age,class\nRome,20,no\nOslo,40,yes\nRome,,no\n";
    const char *age = "age", *city = "city";
    const qn_csv_options o = { .numeric = &age,
                               .n_numeric = 1,
                               .categorical = &city,
                               .n_categorical = 1,
                               .label = "class",
                               .standardise = true,
                               .missing = QN_MISSING_MEAN };
    qn_dataset *ds;
    qn_error err = { 0 };
    float a[3], b[3];
    char *json = NULL, *again = NULL;
    qn_transform t, copy;
    assert_int_equal(parse_with(text, strlen(text), &o, &ds, &err), QN_OK);
    assert_int_equal(qn_transform_to_json(&json, qn_dataset_transform(ds), &err), QN_OK);
    assert_int_equal(qn_transform_from_json(&t, json, &err), QN_OK);
    assert_int_equal(qn_transform_copy(&copy, &t, &err), QN_OK);
    assert_int_equal(qn_transform_to_json(&again, &copy, &err), QN_OK);
    assert_string_equal(json, again);
    assert_int_equal(qn_transform_size(&t), 3);
    assert_string_equal(t.class_name[1], "yes");
    assert_int_equal(qn_dataset_read(ds, 1, a, &err), QN_OK);
    assert_int_equal(qn_transform_row(&t, "Oslo,40,yes", "-", b, &err), QN_OK);
    assert_memory_equal(a, b, sizeof a);
    assert_int_equal(qn_transform_row(&t, "Oslo,40", "-", b, &err), QN_OK);
    assert_memory_equal(a, b, sizeof a);
    assert_int_equal(qn_transform_row(&t, "Osla,40", "-", b, &err), QN_EDATA);
    aid_error(&err, "error E3036 data: -:1:1: column \"city\": \"Osla\"; expected one of 2 known categories; did you "
                    "mean \"Oslo\"");
    assert_int_equal(qn_transform_row(&t, "Oslo", "-", b, &err), QN_EDATA);
    aid_error(&err, "error E3032 data: -:1: 1 fields; expected the 2 features, or a row of the training file");
    free(json);
    free(again);
    qn_transform_free(&t);
    qn_transform_free(&copy);
    qn_dataset_free(ds);
}

/* The order of the training file counts, not the one in which the features are encoded. */
static void features_alone_stand_in_the_order_of_the_file(void **state)
{
    (void)state;
    static const char text[] = "class,city,age,note,height\nno,Rome,20,x,1\nyes,Oslo,40,y,2\n";
    const char *numeric[] = { "height", "age" }, *city = "city";
    const qn_csv_options o = {
        .numeric = numeric, .n_numeric = 2, .categorical = &city, .n_categorical = 1, .label = "class"
    };
    qn_dataset *ds;
    qn_error err = { 0 };
    float a[4], b[4];
    assert_int_equal(parse_with(text, strlen(text), &o, &ds, &err), QN_OK);
    const qn_transform *t = qn_dataset_transform(ds);
    assert_int_equal(qn_transform_place(t, 0), 2);
    assert_int_equal(qn_transform_place(t, 1), 1);
    assert_int_equal(qn_transform_place(t, 2), 0);
    assert_int_equal(qn_dataset_read(ds, 1, a, &err), QN_OK);
    assert_int_equal(qn_transform_row(t, "Oslo,40,2", "-", b, &err), QN_OK);
    assert_memory_equal(a, b, sizeof a);
    assert_int_equal(qn_transform_row(t, "?,Oslo,40,,2", "-", b, &err), QN_OK);
    assert_memory_equal(a, b, sizeof a);
    qn_dataset_free(ds);
}

/* A test file is read with the training file's categories, classes and statistics. */
static void applies_training_transform(void **state)
{
    (void)state;
    const qn_csv_options o = { .label = "c", .standardise = true };
    qn_dataset *train, *test;
    qn_error err = { 0 };
    float x;
    assert_int_equal(parse_with("x,c\n0,a\n2,b\n", 12, &o, &train, &err), QN_OK);
    qn_csv_options with = o;
    with.transform = qn_dataset_transform(train);
    assert_int_equal(parse_with("c,x\nb,5\n", 8, &with, &test, &err), QN_OK);
    assert_int_equal(qn_dataset_label(test, 0), 1);
    assert_int_equal(qn_dataset_read(test, 0, &x, &err), QN_OK);
    near(x, 4); /* (5 - 1) / 1 */
    qn_dataset_free(test);
    expect("c,x\nz,5\n", &with, "error E3036 data: d.csv:2:1: label: \"z\"; expected one of 2 known classes");
    qn_dataset_free(train);
}

static void skips_and_counts_bad_rows(void **state)
{
    (void)state;
    static const char text[] = "x\n1\nbad\n2,2\n4\n";
    qn_csv_options o = { .on_bad = QN_BAD_SKIP, .max_bad = 2 };
    qn_dataset *ds;
    int64_t line;
    assert_int_equal(parse_with(text, strlen(text), &o, &ds, NULL), QN_OK);
    assert_int_equal(qn_dataset_count(ds), 2);
    assert_int_equal(qn_dataset_bad_count(ds), 2);
    aid_error(qn_dataset_bad(ds, 0, &line), "error E3031 data: d.csv:3:1: column \"x\": \"bad\"; expected a number");
    assert_int_equal(line, -3);
    assert_int_equal(qn_dataset_check(ds, NULL, NULL), 2);
    qn_dataset_free(ds);
    o.max_bad = 1;
    expect(text, &o,
           "error E3052 data: d.csv: bad samples: 2; expected at most 1; the last: error E3032 data: d.csv:4: 2 "
           "fields; expected 1 as in the first row");
}

static void locale_does_not_matter(void **state)
{
    (void)state;
    static const char *const commas[] = { "de_DE.UTF-8", "fr_FR.UTF-8", "de_DE", "fr_FR" };
    const char *set = NULL;
    for (size_t i = 0; i < 4 && !set; i++) set = setlocale(LC_ALL, commas[i]);
    if (!set) print_message("no locale with a decimal comma is installed; reading in the C locale only\n");
    qn_dataset *ds;
    float x;
    assert_int_equal(parse_with("x\n1.5\n", 6, NULL, &ds, NULL), QN_OK);
    assert_int_equal(qn_dataset_read(ds, 0, &x, NULL), QN_OK);
    assert_true(x == 1.5f);
    qn_dataset_free(ds);
    setlocale(LC_ALL, "C");
}

static qn_status parse_seed(const uint8_t *b, size_t n, qn_error *err)
{
    const char *c = "c";
    const qn_csv_options o = { .label = "y",
                               .categorical = &c,
                               .n_categorical = 1,
                               .missing = QN_MISSING_MEDIAN,
                               .standardise = true,
                               .clip = QN_CLIP_IQR };
    return parse_with((const char *)b, n, &o, NULL, err);
}

static void survives_damage(void **state)
{
    (void)state;
    static const char seed[] = "\xef\xbb\xbf\143,x,y\r\n\"a\"\"b\",1.5,1\r\nd,,0\r\ne,-2e3,1";
    size_t accepted;
    aid_damage(parse_seed, (const uint8_t *)seed, sizeof seed - 1, &accepted);
    assert_true(accepted > 0);
}

static void refuses_bad_transforms(void **state)
{
    (void)state;
    qn_transform t;
    qn_error err = { 0 };
    assert_int_equal(qn_transform_from_json(&t, "{", &err), QN_EDATA);
    assert_int_equal(err.code, 3003);
    assert_int_equal(qn_transform_from_json(&t, "{\"format\":2}", &err), QN_EDATA);
    aid_error(&err, "error E3003 data: format: missing or out of range; expected what qn_transform_to_json writes");
    assert_int_equal(qn_transform_from_json(&t, "{\"format\":1,\"dim\":[2],\"mean\":[0],\"std\":[0]}", &err), QN_EDATA);
    aid_error(&err, "error E3003 data: mean, std: missing or out of range; expected what qn_transform_to_json writes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_bad_numbers),
        cmocka_unit_test(names_bad_structure),
        cmocka_unit_test(caps_rows),
        cmocka_unit_test(names_columns),
        cmocka_unit_test(names_bad_labels),
        cmocka_unit_test(reads_every_dress),
        cmocka_unit_test(quotes_keep_everything),
        cmocka_unit_test(classes_are_sorted_as_numbers),
        cmocka_unit_test(fills_missing_values),
        cmocka_unit_test(clips_and_standardises),
        cmocka_unit_test(transforms_one_row),
        cmocka_unit_test(features_alone_stand_in_the_order_of_the_file),
        cmocka_unit_test(applies_training_transform),
        cmocka_unit_test(skips_and_counts_bad_rows),
        cmocka_unit_test(locale_does_not_matter),
        cmocka_unit_test(survives_damage),
        cmocka_unit_test(refuses_bad_transforms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
