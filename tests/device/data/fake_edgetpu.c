/* A delegate for tests, under libedgetpu's name: it takes the RESHAPE of the tiny net and copies, as RESHAPE does.
 *
 * FAKE_EDGETPU says what goes wrong: "refuse", "crash" or "hang" as it is created, "no-inference", "die" or "stall" in
 * an inference, after FAKE_EDGETPU_AFTER good ones. With FAKE_EDGETPU_ONCE, the name of a file, it goes wrong only
 * while that file is absent, and makes it.
 *
 * The structs are the beginnings of those in tensorflow/lite/core/c/common.h, as far as they are used.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { int size; int data[]; } IntArray;
typedef struct {
  int type;
  void *data;
  IntArray *dims;
  float scale;
  int32_t zero;
  int allocation;
  size_t bytes;
  void *rest[8];
} Tensor;
typedef struct { IntArray *inputs, *outputs, *intermediates, *temporaries; void *user, *builtin; } Node;
typedef struct Context Context;
typedef struct {
  void *(*init)(Context *, const char *, size_t);
  void (*free)(Context *, void *);
  int (*prepare)(Context *, Node *);
  int (*invoke)(Context *, Node *);
  const char *(*profiling)(Context *, Node *);
  int32_t builtin_code;
  const char *custom_name;
  int version;
  void *rest[8];
} Registration;
typedef struct Delegate {
  void *data;
  int (*prepare)(Context *, struct Delegate *);
  void *copy_from, *copy_to, *release;
  int64_t flags;
  void *rest[8];
} Delegate;
struct Context {
  size_t tensors_size;
  int (*execution_plan)(Context *, IntArray **);
  Tensor *tensors;
  void *impl;
  void *resize, *report, *add;
  int (*node)(Context *, int, Node **, Registration **);
  int (*replace)(Context *, Registration, const IntArray *, Delegate *);
};
enum { RESHAPE = 22 };

static int inferences;

static int goes_wrong(const char *how) {
  const char *wanted = getenv("FAKE_EDGETPU"), *once = getenv("FAKE_EDGETPU_ONCE");
  if (wanted == NULL || strcmp(wanted, how) != 0) return 0;
  if (once == NULL) return 1;
  int made = open(once, O_CREAT | O_EXCL | O_WRONLY, 0600);
  if (made >= 0) close(made);
  return made >= 0;
}

static int invoke(Context *context, Node *node) {
  const char *after = getenv("FAKE_EDGETPU_AFTER");
  if (inferences++ >= (after ? atoi(after) : 0)) {
    if (goes_wrong("no-inference")) return 1;
    if (goes_wrong("die")) {
      fputs("transfer on tag 1 failed. Abort. Deadline exceeded: USB transfer error 2\n", stderr);
      abort();
    }
    if (goes_wrong("stall")) for (;;) pause();
  }
  Tensor *out = &context->tensors[node->outputs->data[0]];
  for (int i = 0; i < node->inputs->size; i++) {
    Tensor *in = &context->tensors[node->inputs->data[i]];
    if (in->bytes == out->bytes) { memcpy(out->data, in->data, out->bytes); return 0; }
  }
  return 1;
}

static int prepare(Context *context, Delegate *delegate) {
  IntArray *plan;
  if (context->execution_plan(context, &plan)) return 1;
  for (int i = 0; i < plan->size; i++) {
    Node *node;
    Registration *found, own = {.invoke = invoke, .builtin_code = 51, .custom_name = "fake-edgetpu", .version = 1};
    if (context->node(context, plan->data[i], &node, &found)) return 1;
    if (found->builtin_code != RESHAPE) continue;
    int taken[2] = {1, plan->data[i]};
    return context->replace(context, own, (const IntArray *)taken, delegate);
  }
  return 1;
}

Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
  (void)keys, (void)values, (void)count;
  if (goes_wrong("refuse")) { report("no device"); return NULL; }
  if (goes_wrong("crash")) *(volatile int *)8 = 1;
  if (goes_wrong("hang")) for (;;) pause();
  Delegate *delegate = calloc(1, sizeof *delegate);
  delegate->prepare = prepare;
  return delegate;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) { free(delegate); }

const char *edgetpu_version(void) { return "BuildLabel(COMPILER=fake,DATE=redacted,TIME=redacted), RuntimeVersion(14)"; }
