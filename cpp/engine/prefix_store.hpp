#pragma once

#include <cstddef>
#include <list>
#include <optional>
#include <string>

#include "gemlet/gemlet.hpp"

namespace gemlet {

/// Forks of sessions, for prompts that begin like theirs; the least recently used makes room for a new one. Sessions of
/// one engine, used by one thread at a time.
class PrefixStore {
 public:
  /// At most `sessions`, whose keys and values take at most `bytes`; 0 bytes: any number.
  PrefixStore(std::size_t sessions, std::size_t bytes) : most_sessions_(sessions), most_bytes_(bytes) {}

  struct Match {
    std::optional<Session> session;  ///< a fork of the one that saves most
    std::size_t reusable = 0;        ///< positions of the prompt that it saves
    /// Positions that some timeline has in common with the prompt: more than can be reused where sliding windows have
    /// moved on. A session that holds just these would save them to the next prompt that begins so.
    std::size_t common = 0;
  };
  /// For a prompt of `session`, which tells the context and the adapter.
  Match find(const Prompt& prompt, const Session& session, const std::string& scope);

  /// Keeps a fork of what the session has computed, unless another one serves for that too, or requests of other scopes
  /// have a part in it.
  void put(const Session& session, const std::string& scope);

  std::size_t size() const { return entries_.size(); }
  std::size_t bytes() const { return bytes_; }

 private:
  struct Entry {
    Session session;
    std::string scope;
    std::size_t bytes;
  };
  using Place = std::list<Entry>::iterator;

  static bool alike(const Entry& entry, const Session& session, const std::string& scope);
  Place erase(Place entry);
  /// Forgets sessions that were restored from files that have changed since.
  void drop_unreadable();

  std::size_t most_sessions_;
  std::size_t most_bytes_;
  std::size_t bytes_ = 0;
  std::list<Entry> entries_;  // the most recently used first
};

}  // namespace gemlet
