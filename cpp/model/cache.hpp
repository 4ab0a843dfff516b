#pragma once

#include <cstddef>
#include <memory>
#include <utility>

#include "format/mapped_file.hpp"

namespace gemlet {

/// What a model keeps of one sequence, as a rule its keys and values (KV cache). Made by Model::make_cache, and only
/// that model (or a slice of it) knows what is inside. Used by one thread at a time.
class Cache {
 public:
  virtual ~Cache() = default;
  Cache& operator=(const Cache&) = delete;

  std::size_t context() const { return context_; }  ///< positions that fit
  std::size_t length() const { return length_; }    ///< positions held

  /// Announces that positions [length(), length() + count) are about to be computed. What can fail, memory, fails here:
  /// throws Error(memory). Positions that were prepared but never advanced over (a cancelled call) leave the held ones
  /// intact.
  virtual void prepare(std::size_t count) = 0;
  void advance(std::size_t count) { length_ += count; }

  /// Forgets positions from `length` on. False, and nothing changed, where something that position `length` would
  /// attend to is no longer there.
  virtual bool rewind(std::size_t length) = 0;

  /// Whether rewind(length) would succeed.
  virtual bool can_rewind(std::size_t length) const = 0;

  /// Memory that the positions take; what is shared with forks is counted whole.
  virtual std::size_t bytes() const = 0;

  /// The file that a restored cache has keys and values from: some may still be read in place there, and what was
  /// computed since depends on them. Null for any other cache.
  const MappedFile* source() const { return source_.get(); }

  /// An independent copy.
  virtual std::unique_ptr<Cache> fork() = 0;

 protected:
  explicit Cache(std::size_t context) : context_(context) {}
  Cache(const Cache&) = default;
  void set_length(std::size_t length) { length_ = length; }
  void set_source(std::shared_ptr<const MappedFile> file) { source_ = std::move(file); }

 private:
  std::size_t context_;
  std::size_t length_ = 0;
  std::shared_ptr<const MappedFile> source_;
};

}  // namespace gemlet
