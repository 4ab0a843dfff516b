#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "text/tokenizer.hpp"
#include "format/gguf.hpp"
#include "gemlet/gemlet.hpp"
#include "kernels/kernels.hpp"
#include "model/gemma3n.hpp"
#include "tensor/thread_pool.hpp"

namespace gemlet {

struct Engine::Impl {
  Impl(const std::filesystem::path& path, const EngineOptions& requested);

  EngineOptions options;  ///< with the defaults filled in
  GgufFile file;
  Gemma3n model;
  Tokenizer tokenizer;
  const kernels::Kernels& kernels;
  ModelInfo info;

  Work work() const;

  /// Activations for one call. They are large and needed only while computing, so that sessions borrow them.
  class StateLease {
   public:
    explicit StateLease(const Impl& engine);
    ~StateLease();
    State& operator*() const { return *state_; }

   private:
    const Impl& engine_;
    std::unique_ptr<State> state_;
  };

 private:
  mutable ThreadPool pool_;
  mutable std::mutex mutex_;
  mutable Work work_;
  mutable std::vector<std::unique_ptr<State>> idle_;
};

}  // namespace gemlet
