#pragma once

#include <atomic>

#include "gemlet/error.hpp"

namespace gemlet {

/// Refuses a second call on a session while one runs, where the C++ interface leaves that to its caller.
class Busy {
 public:
  class Use {
   public:
    explicit Use(Busy& busy) : busy_(busy) {
      if (busy_.flag_.test_and_set(std::memory_order_acquire)) {
        throw Error(Error::Kind::argument,
                    "the session is busy: another call on it has not finished, or it was given twice");
      }
    }
    ~Use() { busy_.flag_.clear(std::memory_order_release); }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    Busy& busy_;
  };

 private:
  std::atomic_flag flag_ = ATOMIC_FLAG_INIT;
};

}  // namespace gemlet
