#ifndef GEMLET_H
#define GEMLET_H

/* gemlet's C interface. docs/c_api.md shows how to link it and how to use it.
 *
 * Errors. A function that can fail returns a gemlet_status. When that is not GEMLET_OK, the gemlet_error that was
 * passed holds the status and a message that names the thing, what was expected and what was found; it may be NULL.
 * Output arguments are set only by a call that succeeds, but a handle that could not be made is set to NULL. No
 * exception leaves the library, and it never prints, aborts or exits.
 *
 * Structs. Each begins with `struct_size`, which the caller sets to sizeof the struct and by which programs and
 * libraries of different releases understand each other. Later releases append fields. A field that an older program
 * does not have takes its default, and a library refuses (GEMLET_UNSUPPORTED) a newer program's field that it does not
 * know only if it is not zero. Set all other fields to zero first: zero is every field's default, except those of
 * gemlet_sampling, which gemlet_sampling_init fills in:
 *
 *     gemlet_request request = {.struct_size = sizeof(request)};
 *
 * Strings are UTF-8. `const char*` without a length ends with a zero byte; text with a length may contain any bytes,
 * and those that are not UTF-8 become U+FFFD.
 *
 * Buffers. A function that writes into a caller's array takes its `capacity`, in elements, and sets a count to the
 * number of elements that there are; it writes at most `capacity` of them. A call with a NULL array and capacity 0 asks
 * for the number.
 *
 * Memory. The caller owns every handle that it made and frees it with the function of that name; freeing NULL does
 * nothing. Handles keep what they need of each other, so that they may be freed in any order: a session goes on without
 * the handles of its engine and of the media in it. Arguments are not needed after the call has returned. What the
 * library returns by pointer belongs to it.
 *
 * Threads. Engines, encoders and media may be used from any number of threads at once. A session, which is one timeline
 * of tokens, and a sound that is recorded may be used by one thread at a time: a call while another runs on the same
 * handle, such as from inside its callback, fails with GEMLET_ARGUMENT and does no harm. gemlet_session_cancel and
 * gemlet_sound_cancel alone may be called from any thread at any time. A handle must not be freed while a call on it
 * runs.
 *
 * fork(). A child computes with the handles that it inherits, on threads of its own. A session or a sound on which
 * another thread's call was running stays busy in the child; it can only be freed there. */

#include <stddef.h>
#include <stdint.h>

#include "gemlet/export.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Changes only when a program that was built with an older header cannot run with this library; it is the number in the
 * name of the shared library. */
#define GEMLET_ABI_VERSION 1

typedef enum gemlet_status {
  GEMLET_OK = 0,
  GEMLET_IO = 1,          /* a file that cannot be opened, read, mapped or written */
  GEMLET_FORMAT = 2,      /* a file whose contents are malformed or damaged */
  GEMLET_UNSUPPORTED = 3, /* well-formed, but an architecture, type or version that this library does not run */
  GEMLET_ARGUMENT = 4,    /* a value passed by the caller */
  GEMLET_CONTEXT = 5,     /* more tokens than the session's context holds */
  GEMLET_CANCELLED = 6,   /* gemlet_session_cancel, gemlet_sound_cancel or a gemlet_on_progress asked for it */
  GEMLET_MEMORY = 7,      /* an allocation that the system refused */
  GEMLET_INTERNAL = 8     /* a fault in the library; please report it */
} gemlet_status;

typedef struct gemlet_error {
  size_t struct_size; /* set by the caller; if it is no size of this struct, the call fails and nothing is written */
  gemlet_status status;
  char message[1020]; /* ends with a zero byte; a longer message is cut between two UTF-8 characters */
} gemlet_error;

/* A loaded model: weights, tokenizer and worker threads. It does not change. */
typedef struct gemlet_engine gemlet_engine;

/* One timeline of tokens with the keys and values that were computed for them (the KV cache). */
typedef struct gemlet_session gemlet_session;

/* A model's encoders for what is not text. They do not change. */
typedef struct gemlet_encoders gemlet_encoders;

/* A picture or a sound that has been encoded, as it enters prompts. It does not change, and may be in any number of
 * turns, sessions and conversations. */
typedef struct gemlet_medium gemlet_medium;

/* A sound that is encoded while it is recorded. */
typedef struct gemlet_sound gemlet_sound;

/* The library's release, such as "0.1.0". Valid for ever. */
GEMLET_API const char* gemlet_version(void);

/* GEMLET_ABI_VERSION of the library, to compare with that of the header. */
GEMLET_API int32_t gemlet_abi_version(void);

/* The name of a status, such as "format"; "unknown" for another number. Valid for ever. */
GEMLET_API const char* gemlet_status_name(int32_t status);

/* ---- Engine ---- */

typedef struct gemlet_engine_options {
  size_t struct_size;
  int32_t threads; /* 0: one for each physical core, within the process's quota */
  int32_t context; /* tokens that a session holds; 0: the smaller of 8192 and what the model was trained for */
  /* Prompt tokens computed in one pass over the weights: more is faster and takes more memory. 0: 256. */
  int32_t chunk;
  const char* cache; /* type of the keys and values: "f16", "f32" or "int8"; NULL: "f16" */
  /* A part of a MatFormer model that is a smaller model: "e2b" (the published one of E4B), a share of the feed-forward
   * width ("0.5"), a width ("8192"), or widths and layers ("ffn=8192x25,16384x5:drop=20-24"). NULL: the whole. */
  const char* slice;
} gemlet_engine_options;

/* Loads the GGUF file at `path`; of a split model, its first file. Weights are mapped, not read: the file must not
 * change while the engine or one of its sessions lives, but may be replaced by renaming another over it. Where it has
 * changed all the same, calls fail with GEMLET_IO; for that, loading a model or restoring a session installs a handler
 * of SIGBUS once in the process, which passes on what is not gemlet's (docs/c_api.md). `options` may be NULL. */
GEMLET_API gemlet_status gemlet_engine_load(const char* path, const gemlet_engine_options* options,
                                            gemlet_engine** engine, gemlet_error* error);

/* Frees the handle. Sessions keep what they need of the engine and go on. */
GEMLET_API void gemlet_engine_free(gemlet_engine* engine);

/* What is known of a model. The strings belong to the engine and live as long as its handle. */
typedef struct gemlet_model_info {
  size_t struct_size;
  const char* architecture;  /* the file's general.architecture */
  const char* name;          /* "" if the file has none */
  const char* chat_template; /* Jinja, "" if the file has none; gemlet_prompt does not need it */
  const char* kernels;       /* the kernel table in use: "avx2" */
  int32_t vocabulary;        /* tokens */
  int32_t hidden_size;       /* numbers in a token's vector between two layers */
  int32_t layers;            /* that are computed */
  int32_t file_layers;       /* in the file: more than `layers` where a slice leaves some out */
  int32_t trained_context;   /* tokens */
  int32_t context;           /* tokens that a session holds unless it is made with another number */
  int32_t threads;           /* that compute */
  int32_t bos;               /* id of the begin-of-sequence token */
  uint64_t file_bytes;
  uint64_t fingerprint; /* of weights and configuration; saved sessions carry it */
} gemlet_model_info;

/* Fills in `info`, whose struct_size is set. */
GEMLET_API gemlet_status gemlet_engine_info(const gemlet_engine* engine, gemlet_model_info* info, gemlet_error* error);

/* Writes a field of the model's configuration as text, by its name in the checkpoint's config.json ("hidden_size",
 * "layer_types"): a number or true or false as in JSON, a string as it is, a list as a JSON array. `capacity` and
 * `*length` are bytes; a zero byte follows the text where there is room, not counted. GEMLET_ARGUMENT for a name that
 * the model does not have. */
GEMLET_API gemlet_status gemlet_engine_hyperparameter(const gemlet_engine* engine, const char* name, char* text,
                                                      size_t capacity, size_t* length, gemlet_error* error);

/* The names of the configuration's fields, in alphabetical order from index 0; NULL beyond the last. They belong to the
 * engine. */
GEMLET_API const char* gemlet_engine_hyperparameter_name(const gemlet_engine* engine, size_t index);

/* ---- Tokenizer ---- */

/* Writes the token ids of `text`, which is `length` bytes long. `bos` not 0: the begin-of-sequence token comes first.
 * `special` not 0: text such as "<start_of_turn>" becomes its control token; pass 0 for text that a user typed. */
GEMLET_API gemlet_status gemlet_tokenize(const gemlet_engine* engine, const char* text, size_t length, int bos,
                                         int special, int32_t* tokens, size_t capacity, size_t* count,
                                         gemlet_error* error);

/* Writes the bytes that `tokens` stand for; control tokens are left out unless `special` is not 0. `capacity` and
 * `*length` are bytes; a zero byte follows the text where there is room, not counted. The text of some of a
 * completion's tokens may end inside a UTF-8 character. GEMLET_ARGUMENT for an id outside the vocabulary. */
GEMLET_API gemlet_status gemlet_detokenize(const gemlet_engine* engine, const int32_t* tokens, size_t count,
                                           int special, char* text, size_t capacity, size_t* length,
                                           gemlet_error* error);

/* Sets *token to the id of the piece of exactly these bytes, such as "<end_of_turn>"; GEMLET_ARGUMENT if there is
 * none. */
GEMLET_API gemlet_status gemlet_find_token(const gemlet_engine* engine, const char* piece, size_t length,
                                           int32_t* token, gemlet_error* error);

/* Sets *is_end to 1 if the token ends the sequence or a turn, else to 0. GEMLET_ARGUMENT for an id outside the
 * vocabulary. */
GEMLET_API gemlet_status gemlet_is_end(const gemlet_engine* engine, int32_t token, int* is_end, gemlet_error* error);

/* ---- Pictures and sounds ---- */

/* Loads the encoders of the file at `path`: a model file that holds its encoders, or a separate one ("mmproj"). It is
 * mapped like a model, and what gemlet_engine_load says of changed files holds for it. Of the options, which may be
 * NULL, `threads` counts. GEMLET_UNSUPPORTED for a file without encoders. */
GEMLET_API gemlet_status gemlet_encoders_load(const char* path, const gemlet_engine_options* options,
                                              gemlet_encoders** encoders, gemlet_error* error);

/* Frees the handle. Media stay, and sounds go on. */
GEMLET_API void gemlet_encoders_free(gemlet_encoders* encoders);

typedef struct gemlet_media_info {
  size_t struct_size;
  int32_t sees;        /* 1: the file holds an encoder for pictures; 0: it does not */
  int32_t hears;       /* likewise for sounds */
  int32_t hidden_size; /* of the model that they are for; gemlet_model_info.hidden_size has to be the same */
  int32_t sample_rate; /* of sounds, in samples a second: 16000 */
} gemlet_media_info;

/* Fills in `info`, whose struct_size is set. */
GEMLET_API gemlet_status gemlet_encoders_info(const gemlet_encoders* encoders, gemlet_media_info* info,
                                              gemlet_error* error);

/* How the bytes of a pixel stand in memory, one for each channel. What is transparent is put on white. */
typedef enum gemlet_pixel_format {
  GEMLET_RGB8 = 0,               /* red, green, blue */
  GEMLET_RGBA8 = 1,              /* red, green, blue, alpha */
  GEMLET_RGBA8_PREMULTIPLIED = 2 /* likewise, the colours already multiplied by alpha, as in most Android bitmaps */
} gemlet_pixel_format;

typedef struct gemlet_picture {
  size_t struct_size;
  const uint8_t* pixels; /* the uppermost row first */
  size_t width;          /* in pixels, 1 to 65536 */
  size_t height;         /* likewise */
  size_t stride;         /* bytes from the beginning of a row to that of the next; 0: there is nothing between them */
  int32_t format;        /* a gemlet_pixel_format */
  /* The encoder resizes every picture to a square of so many pixels each way, whatever its aspect. Gemma 3n's takes
   * 256, 512 or 768; smaller is faster. 0: the size that the encoder was made for. */
  int32_t size;
} gemlet_picture;

/* Called with the share that is done, from 0, before anything is computed, to 1; for what need not be encoded again,
 * with 0 alone. Runs on the thread that called. Return 0 to go on and anything else to stop, after which the call fails
 * with GEMLET_CANCELLED. It must not leave by longjmp or an exception. */
typedef int (*gemlet_on_progress)(void* user, float share);

/* Encodes a picture. `on_progress` may be NULL; `user` is passed to it as it is. The same picture at the same size is
 * not encoded again while another medium of it has not been freed. GEMLET_UNSUPPORTED if the encoders do not see,
 * GEMLET_ARGUMENT for a picture without pixels, rows that overlap, or a size that the encoder does not take. */
GEMLET_API gemlet_status gemlet_encode_picture(const gemlet_encoders* encoders, const gemlet_picture* picture,
                                               gemlet_on_progress on_progress, void* user, gemlet_medium** medium,
                                               gemlet_error* error);

/* Likewise a sound: `count` samples, one channel, in [-1, 1], 16000 a second. The models were trained on sounds of up
 * to 30 seconds. GEMLET_UNSUPPORTED if the encoders do not hear, GEMLET_ARGUMENT for no samples, or for one that is far
 * outside or no number. */
GEMLET_API gemlet_status gemlet_encode_sound(const gemlet_encoders* encoders, const float* samples, size_t count,
                                             gemlet_on_progress on_progress, void* user, gemlet_medium** medium,
                                             gemlet_error* error);

GEMLET_API void gemlet_medium_free(gemlet_medium* medium);

/* How many tokens' places it takes in a prompt, without the marks around it; 0 for NULL. */
GEMLET_API size_t gemlet_medium_tokens(const gemlet_medium* medium);

/* Begins a sound that is encoded as it comes, so that little is left to do when it ends. GEMLET_UNSUPPORTED if the
 * encoders do not hear. */
GEMLET_API gemlet_status gemlet_sound_new(const gemlet_encoders* encoders, gemlet_sound** sound, gemlet_error* error);
GEMLET_API void gemlet_sound_free(gemlet_sound* sound);

/* More samples, as in gemlet_encode_sound; how a sound is cut into pieces changes nothing. GEMLET_ARGUMENT, and nothing
 * is taken, for a sample that is far outside or no number, and after gemlet_sound_finish. After GEMLET_CANCELLED the
 * samples are taken, and the next call encodes what was left. */
GEMLET_API gemlet_status gemlet_sound_feed(gemlet_sound* sound, const float* samples, size_t count,
                                           gemlet_error* error);

/* No more samples come: gives what gemlet_encode_sound gives for all of them. It may be called again, after
 * GEMLET_CANCELLED too. GEMLET_ARGUMENT if there were none. */
GEMLET_API gemlet_status gemlet_sound_finish(gemlet_sound* sound, gemlet_medium** medium, gemlet_error* error);

/* Makes the call that runs on this sound return GEMLET_CANCELLED soon. Between calls it has no effect. */
GEMLET_API void gemlet_sound_cancel(gemlet_sound* sound);

/* ---- Conversations ---- */

/* A piece of a turn: text, or a picture or a sound. */
typedef struct gemlet_part {
  size_t struct_size; /* the same in all parts of an array */
  const char* text;
  size_t length;               /* of the text, in bytes */
  const gemlet_medium* medium; /* NULL for text. Otherwise there is no text */
} gemlet_part;

/* One turn of a conversation. No text can pass for the model's markup or for a picture, whatever was typed there. */
typedef struct gemlet_turn {
  size_t struct_size; /* the same in all turns of an array */
  const char* role;   /* "system", "user" or "model"; "assistant" is "model" */
  const char* text;
  size_t length; /* of the text, in bytes */
  /* In a model's turn: the token ids that were sampled (gemlet_request.completion), which take the place of the text,
   * so that what was computed for them is used again. Tokenising the text may give others. NULL and 0: the text. */
  const int32_t* tokens;
  size_t token_count;
  /* In a user's turn: the pieces that it consists of, in any order, in place of `text`. NULL and 0: the text. */
  const gemlet_part* parts;
  size_t part_count;
} gemlet_turn;

/* How a prompt that is made of turns ends. */
typedef enum gemlet_prompt_end {
  GEMLET_GENERATION_PROMPT = 0, /* with the beginning of the model's next turn */
  GEMLET_COMPLETE = 1,          /* with the last turn */
  GEMLET_OPEN_ANSWER = 2        /* inside the last turn, which is the model's: it goes on writing there */
} gemlet_prompt_end;

/* Writes the tokens of a whole conversation in the model's own turn format, the begin-of-sequence token first. `end` is
 * a gemlet_prompt_end.
 * GEMLET_ARGUMENT, naming the turn, where turns do not alternate as the format wants or a medium is from encoders of
 * another hidden size; GEMLET_UNSUPPORTED for a model without turn markers, or without those of a medium.
 * Token ids cannot say which picture or sound stands in their midst. With media in it, the call therefore only counts,
 * places of media included, and GEMLET_ARGUMENT refuses a capacity that is not 0: pass the turns to gemlet_generate or
 * gemlet_session_advance_to_turns. */
GEMLET_API gemlet_status gemlet_prompt(const gemlet_engine* engine, const gemlet_turn* turns, size_t turn_count,
                                       int32_t end, int32_t* tokens, size_t capacity, size_t* count,
                                       gemlet_error* error);

/* ---- Session ---- */

/* Makes an empty session that holds up to `context` tokens; 0: the engine's. Memory is taken as it grows. */
GEMLET_API gemlet_status gemlet_session_new(const gemlet_engine* engine, int32_t context, gemlet_session** session,
                                            gemlet_error* error);
GEMLET_API void gemlet_session_free(gemlet_session* session);

/* Makes a second session with the same tokens, which then goes its own way. */
GEMLET_API gemlet_status gemlet_session_fork(const gemlet_session* session, gemlet_session** fork, gemlet_error* error);

/* Writes the ids of the tokens that the session holds; 0 in the places of pictures and sounds. */
GEMLET_API gemlet_status gemlet_session_tokens(const gemlet_session* session, int32_t* tokens, size_t capacity,
                                               size_t* count, gemlet_error* error);

/* Appends tokens and computes them. GEMLET_CONTEXT when they do not fit, GEMLET_ARGUMENT for none or for an id outside
 * the vocabulary; a call that fails or is cancelled leaves the session as it was. */
GEMLET_API gemlet_status gemlet_session_prefill(gemlet_session* session, const int32_t* tokens, size_t count,
                                                gemlet_error* error);

/* Brings the session to just these tokens: keeps the longest common prefix and computes the rest, at least the last
 * token. `*reused`, which may be NULL, is the number of tokens that were not computed again. */
GEMLET_API gemlet_status gemlet_session_advance_to(gemlet_session* session, const int32_t* tokens, size_t count,
                                                   size_t* reused, gemlet_error* error);

/* Likewise to a conversation, of which `end` is a gemlet_prompt_end: computes a long beginning, or a picture, before
 * the question is known. Fails as gemlet_prompt does, too. */
GEMLET_API gemlet_status gemlet_session_advance_to_turns(gemlet_session* session, const gemlet_turn* turns,
                                                         size_t turn_count, int32_t end, size_t* reused,
                                                         gemlet_error* error);

/* Writes the logits (before any softmax) of the token that follows the last one: one float for each token of the
 * vocabulary. GEMLET_ARGUMENT where nothing was computed since the session began or was rewound. */
GEMLET_API gemlet_status gemlet_session_logits(const gemlet_session* session, float* logits, size_t capacity,
                                               size_t* count, gemlet_error* error);

/* Makes the session as if only the first `position` tokens had been given. GEMLET_ARGUMENT for a position inside of a
 * picture or a sound. */
GEMLET_API gemlet_status gemlet_session_rewind(gemlet_session* session, int32_t position, gemlet_error* error);

/* Writes a file, renamed when it is complete. GEMLET_IO for a symbolic link, a device or the model's own file. */
GEMLET_API gemlet_status gemlet_session_save(const gemlet_session* session, const char* path, gemlet_error* error);

/* Makes a session from a saved one. GEMLET_FORMAT for a damaged file, GEMLET_UNSUPPORTED for another model's. Of
 * pictures and sounds a file holds what was computed for them, not their media: where one must be computed again after
 * a rewind, GEMLET_ARGUMENT asks for the whole conversation. */
GEMLET_API gemlet_status gemlet_session_restore(const gemlet_engine* engine, const char* path, int32_t context,
                                                gemlet_session** session, gemlet_error* error);

/* Makes the call that runs on this session return GEMLET_CANCELLED before its next pass over the weights. Between calls
 * it has no effect: each call that computes forgets what was cancelled before. */
GEMLET_API void gemlet_session_cancel(gemlet_session* session);

/* ---- Generation ---- */

/* How the next token is chosen. Applied in this order: penalties, temperature, top-k, top-p, min-p. */
typedef struct gemlet_sampling {
  size_t struct_size;
  float temperature;        /* 0: greedy */
  int32_t top_k;            /* 0: off */
  float top_p;              /* 1: off */
  float min_p;              /* 0: off */
  float repetition_penalty; /* of the tokens of prompt and completion; 1: off */
  float presence_penalty;   /* of those of the completion, in logits; 0: off */
  float frequency_penalty;  /* likewise, for each time; 0: off */
  uint64_t seed;            /* the same seed gives the same completion */
} gemlet_sampling;

/* Fills in the defaults, which are Gemma's (temperature 1, top-k 64, top-p 0.95); call it as
 * gemlet_sampling_init(&sampling, sizeof(sampling)). It writes `struct_size` bytes, and nothing for NULL or for a
 * struct_size that is smaller than the first release's. */
GEMLET_API void gemlet_sampling_init(gemlet_sampling* sampling, size_t struct_size);

/* Speculative decoding: where draft tokens come from, several of which the model verifies in one pass. It changes the
 * time that a completion takes and nothing else. */
typedef enum gemlet_speculate {
  GEMLET_SPECULATE_NONE = 0,
  GEMLET_SPECULATE_LOOKUP = 1, /* the last occurrence of the last tokens in prompt and completion */
  GEMLET_SPECULATE_SLICE = 2   /* a slice of the model */
} gemlet_speculate;

/* Called with a piece of the completion: whole UTF-8 characters, `length` bytes, not ended by a zero byte, never part
 * of a stop string; valid until it returns. Runs on the thread that called gemlet_generate. Return 0 to go on and
 * anything else to stop, after which the call ends with GEMLET_OK and GEMLET_FINISH_CANCELLED. (The C++ interface's
 * OnText returns true to go on.) It must not leave by longjmp or an exception. */
typedef int (*gemlet_on_text)(void* user, const char* text, size_t length);

/* What to complete and how. Either `turns` or `prompt` is given. */
typedef struct gemlet_request {
  size_t struct_size;
  const gemlet_turn* turns; /* a conversation, of which the model's next turn is wanted */
  size_t turn_count;
  const int32_t* prompt; /* or its tokens */
  size_t prompt_count;
  const gemlet_sampling* sampling; /* NULL: the defaults */
  const char* const* stop;         /* the completion ends before the first of these strings */
  size_t stop_count;
  gemlet_on_text on_text;     /* NULL: none */
  void* user;                 /* passed to on_text as it is */
  int32_t* completion;        /* NULL, or where the sampled token ids go, without an end token */
  size_t completion_capacity; /* in tokens; gemlet_stats.generated_tokens says how many there are */
  int32_t max_tokens;         /* of the completion; 0: 256 */
  int32_t speculate;          /* a gemlet_speculate */
} gemlet_request;

typedef enum gemlet_finish {
  GEMLET_FINISH_STOP = 0,     /* an end token or a stop string */
  GEMLET_FINISH_LENGTH = 1,   /* max_tokens */
  GEMLET_FINISH_CONTEXT = 2,  /* the session is full */
  GEMLET_FINISH_CANCELLED = 3 /* the callback or another thread */
} gemlet_finish;

typedef struct gemlet_stats {
  size_t struct_size;
  gemlet_finish finish;
  int32_t prompt_tokens;
  int32_t reused_tokens;    /* of the prompt, held by the session already and not computed again */
  int32_t generated_tokens; /* without an end token */
  int32_t draft_tokens;     /* proposed by speculative decoding */
  int32_t accepted_tokens;  /* draft tokens that were accepted */
  double prefill_seconds;
  double decode_seconds;
  double first_token_seconds; /* from the call to the first sampled token */
} gemlet_stats;

/* Completes a prompt. The session keeps what it already holds of it, and afterwards holds prompt and completion, so
 * that the next turn of a conversation computes only what is new. `stats`, whose struct_size is set, may be NULL; it is
 * filled in by a call that another thread cancelled, too. */
GEMLET_API gemlet_status gemlet_generate(gemlet_session* session, const gemlet_request* request, gemlet_stats* stats,
                                         gemlet_error* error);

#ifdef __cplusplus
}
#endif
#endif
