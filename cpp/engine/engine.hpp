#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "format/gguf.hpp"
#include "gemlet/gemlet.hpp"
#include "kernels/kernels.hpp"
#include "model/model.hpp"
#include "tensor/at_fork.hpp"
#include "tensor/thread_pool.hpp"
#include "text/tokenizer.hpp"

namespace gemlet {

struct Engine::Impl {
  /// The model of a GGUF file.
  Impl(const std::filesystem::path& path, const EngineOptions& requested);
  /// A model that was made elsewhere, with the tokenizer of a GGUF file. The engine fills in the context of `info`.
  Impl(const std::filesystem::path& tokenizer_path, std::shared_ptr<const Model> made, ModelInfo description,
       const EngineOptions& requested);

  static const Impl& of(const Engine& engine) { return *engine.impl_; }
  static std::shared_ptr<const Engine> wrap(std::unique_ptr<Impl> impl);

  EngineOptions options;  ///< with the defaults filled in
  GgufFile file;
  Tokenizer tokenizer;
  std::shared_ptr<const Model> model;
  const kernels::Kernels& kernels;
  ModelInfo info;

  std::size_t vocabulary() const { return model->shape().vocab_size; }
  Work work() const;
  std::vector<std::filesystem::path> files() const;  ///< all parts of the model file, or the tokenizer's file

  /// Activations for one call. They are large and needed only while computing, so that sessions borrow them.
  class ActivationsLease {
   public:
    explicit ActivationsLease(const Impl& engine);
    ~ActivationsLease();
    Activations& operator*() const { return *activations_; }

   private:
    const Impl& engine_;
    std::unique_ptr<Activations> activations_;
  };

 private:
  /// Throws Error for a model with more tokens than the tokenizer, or a context that it does not have.
  void check_model();

  mutable ThreadPool pool_;
  mutable ForkMutex mutex_;
  mutable Work work_;
  mutable std::vector<std::unique_ptr<Activations>> idle_;
};

}  // namespace gemlet
