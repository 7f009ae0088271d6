/* stream.h - streams as queues of work that waits, events, captures. */
#ifndef QN_TESTS_CUDASIM_STREAM_H
#define QN_TESTS_CUDASIM_STREAM_H
#include "engine.h"
#include <deque>
#include <functional>
#include <memory>
#include <pthread.h>

namespace cudasim
{

struct Stream;
struct Point { /* the first `at` pieces of work of a stream are done */
    Stream *stream;
    uint64_t at;
};
/* A piece of work: false means "not yet". */
typedef std::function<bool()> Run;
struct Work {
    std::vector<Point> after;
    Run run;
    const char *what;
};

struct Node {
    Run run;
    const char *what;
    std::vector<int> after; /* earlier nodes of the same graph */
};
struct Graph {
    std::vector<Node> node;
    int device;
};
struct Capture {
    uint64_t id;
    enum cudaStreamCaptureMode mode;
    pthread_t thread;
    Stream *origin;
    std::vector<Stream *> member;
    std::shared_ptr<Graph> graph;
    bool spoiled;
};

struct Stream {
    int device;
    bool blocking; /* ordered with the legacy stream of its device */
    bool alive;
    bool eager; /* its work runs at once */
    std::deque<Work> queue;
    uint64_t done, pushed;
    Capture *capture;
    std::vector<int> tails; /* nodes of the capture that the next one follows */
};

struct Event {
    int device;
    bool timing, recorded;
    Point point;
    std::shared_ptr<double> when; /* filled when its turn comes */
    uint64_t capture;             /* the capture that it was last recorded in; 0: none */
    std::vector<int> nodes;
};

extern std::vector<Stream *> streams; /* all of them, dead ones too */

Stream *stream_of(cudaStream_t handle); /* NULL: not a stream */
Stream *legacy_stream(int device);
Stream *existing_legacy_stream(int device); /* NULL: not used yet */
Stream *new_stream(int device, bool blocking);

/* Puts work at the end of a stream, or into its capture. */
cudaError_t enqueue(Stream *s, const char *what, Run run);
/* Runs a stream until `at` pieces of its work are done. */
cudaError_t finish(Stream *s, uint64_t at);
void try_one(Stream *s); /* one piece, if it can run */
bool try_any();          /* one piece of every stream that can; false: none */
cudaError_t finish_device(int device);
cudaError_t finish_all();

cudaError_t wait_for_event(Stream *s, Event *e);
cudaError_t record_event(Stream *s, Event *e);
double now_ms();

/* ---- captures (graph.cpp) ---- */
Capture *capture_by_id(uint64_t id);
/* The error of a call that a capture of this thread (or any, if that was asked) forbids, or success. */
cudaError_t forbidden_while_capturing();
/* Ends a capture's usefulness, if it still goes on; gives `answer` back. */
cudaError_t spoil_capture(uint64_t id, cudaError_t answer);
void add_node(Stream *s, const char *what, Run run);

} // namespace cudasim
#endif
