#pragma once

#include <cstddef>

// The language of fuzz_session's inputs: one byte that chooses a saved session, one whose lowest bit leaves the
// checksum wrong, and edits of its bytes. So inputs outlive changes of the file's layout.
namespace fuzz {

enum Base : std::size_t { empty_session, with_logits, rewound, with_media, other_model, bases };

/// What an edit begins with. Places are a Range and two bytes; numbers are what Input::hostile() reads.
enum Edit : std::size_t {
  set_8_bytes,
  set_4_bytes,
  set_2_bytes,
  flip_bit,
  insert_block,
  erase_block,
  copy_block,
  cut,
  edits
};

/// Places are counted from here, by whole words in the header, so that its fields are met.
enum Range : std::size_t { in_header, anywhere, at_end, ranges };

}  // namespace fuzz
