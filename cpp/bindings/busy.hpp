#pragma once

#include <atomic>
#include <string>

#include "gemlet/error.hpp"
#include "tensor/at_fork.hpp"

namespace gemlet {

/// Refuses a second call on a session, or on what `noun` says, while one runs, where the C++ interface leaves that to
/// its caller.
class Busy {
 public:
  class Use {
   public:
    explicit Use(Busy& busy) : busy_(busy) {
      unsigned user = nobody;
      if (busy_.user_.compare_exchange_strong(user, this_process(), std::memory_order_acquire)) return;
      throw Error(Error::Kind::argument,
                  user == this_process()
                      ? "the " + busy_.noun_ + " is busy: another call on it has not finished, or it was given twice"
                      : "the " + busy_.noun_ +
                            " is busy: a call on it had not finished when this process was forked, and goes on in the "
                            "parent only; use another " +
                            busy_.noun_);
    }
    ~Use() { busy_.end(); }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    Busy& busy_;
  };

  explicit Busy(const char* noun = "session") : noun_(noun) {}

  /// In a forked child: takes the session from a thread that only the parent has. False if none has it.
  bool take_lost_use() {
    unsigned user = user_.load();
    return user != nobody && user != this_process() && user_.compare_exchange_strong(user, this_process());
  }
  void end() { user_.store(nobody, std::memory_order_release); }

 private:
  static constexpr unsigned nobody = 0;
  static unsigned this_process() { return fork_generation() + 1; }

  std::string noun_;
  std::atomic<unsigned> user_{nobody};
};

}  // namespace gemlet
