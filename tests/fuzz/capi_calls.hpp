#pragma once

#include <cstddef>

namespace fuzz {

/// What a call in an input of fuzz_capi begins with. Its arguments follow; zeros stand for good ones.
enum Call : std::size_t {
  no_call,  // has no arguments, so that zeros may follow a call's
  call_info,
  call_hyperparameter,
  call_tokenize,
  call_detokenize,
  call_find_token,
  call_is_end,
  call_prompt,
  call_session_new,
  call_session_free,
  call_fork,
  call_tokens,
  call_prefill,
  call_advance_to,
  call_logits,
  call_rewind,
  call_save,
  call_restore,
  call_cancel,
  call_sampling_init,
  call_load,
  call_generate,
  call_encoders_load,
  call_encoders_info,
  call_encode_picture,
  call_encode_sound,
  call_medium_free,
  call_sound_new,
  call_sound_feed,
  call_sound_finish,
  call_sound_cancel,
  call_sound_free,
  call_advance_to_turns,
  calls
};

/// What the callback of a request does when a piece of text comes.
enum Callback : std::size_t { no_callback, go_on, stop_at_third, cancel_session, use_session, callbacks };

/// What the callback of an encoder does.
enum ProgressCallback : std::size_t {
  no_progress,
  only_listen,
  stop_at_first,
  stop_at_second,
  use_encoders,
  progress_callbacks
};

}  // namespace fuzz
