#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "bindings/c_api_struct.hpp"
#include "gemlet/gemlet.h"
#include "gemlet/gemlet.hpp"
#include "gemlet/media.hpp"

// The C interface's structs as values of the C++ interface, and back.
namespace gemlet {

// The first release ended with these fields. The assertions show that no struct ends in padding, which a later field
// would share; where fields were appended since, they name the last.
#define GEMLET_FIRST_SIZE(type, last) offsetof(type, last) + sizeof(type::last)
inline constexpr StructKind error_kind{"error", GEMLET_FIRST_SIZE(gemlet_error, message)};
inline constexpr StructKind engine_options_kind{"options", GEMLET_FIRST_SIZE(gemlet_engine_options, slice)};
inline constexpr StructKind model_info_kind{"info", GEMLET_FIRST_SIZE(gemlet_model_info, fingerprint)};
inline constexpr StructKind media_info_kind{"info", GEMLET_FIRST_SIZE(gemlet_media_info, sample_rate)};
inline constexpr StructKind picture_kind{"picture", GEMLET_FIRST_SIZE(gemlet_picture, size)};
inline constexpr StructKind part_kind{"a part", GEMLET_FIRST_SIZE(gemlet_part, medium)};
inline constexpr StructKind turn_kind{"a turn", GEMLET_FIRST_SIZE(gemlet_turn, token_count)};
inline constexpr StructKind sampling_kind{"sampling", GEMLET_FIRST_SIZE(gemlet_sampling, seed)};
inline constexpr StructKind request_kind{"request", GEMLET_FIRST_SIZE(gemlet_request, speculate)};
inline constexpr StructKind stats_kind{"stats", GEMLET_FIRST_SIZE(gemlet_stats, first_token_seconds)};
static_assert(error_kind.first_size == sizeof(gemlet_error));
static_assert(engine_options_kind.first_size == sizeof(gemlet_engine_options));
static_assert(model_info_kind.first_size == sizeof(gemlet_model_info));
static_assert(media_info_kind.first_size == sizeof(gemlet_media_info));
static_assert(picture_kind.first_size == sizeof(gemlet_picture));
static_assert(part_kind.first_size == sizeof(gemlet_part));
static_assert(GEMLET_FIRST_SIZE(gemlet_turn, part_count) == sizeof(gemlet_turn));
static_assert(sampling_kind.first_size == sizeof(gemlet_sampling));
static_assert(request_kind.first_size == sizeof(gemlet_request));
static_assert(stats_kind.first_size == sizeof(gemlet_stats));
#undef GEMLET_FIRST_SIZE

inline void require(const void* argument, const char* name) {
  if (argument == nullptr) throw Error(Error::Kind::argument, std::string(name) + " is NULL");
}

/// An array argument, which may be NULL when it is empty.
template <typename T>
std::span<T> array(T* data, std::size_t count, const char* name) {
  if (count > 0) require(data, name);
  return {data, count};
}

EngineOptions engine_options_of(const gemlet_engine_options* given);  ///< NULL: the defaults

gemlet_sampling default_sampling();

PromptEnd prompt_end_of(std::int32_t end);

/// Throws Error(argument) for what is no gemlet_pixel_format. A stride of 0 becomes that of rows without gaps.
Picture picture_of(const gemlet_picture& given);

/// Throws Error naming the turn that cannot be one.
std::vector<Turn> turns_of(const gemlet_turn* turns, std::size_t count);

GenerateOptions generate_options_of(const gemlet_request& request);

OnText on_text_of(const gemlet_request& request);

gemlet_stats stats_of(const GenerateResult& result);

}  // namespace gemlet
