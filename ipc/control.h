/* Structures of the messages inside one node, made from control.def. Encoded and decoded by
 * ipc/msg_codec.h. */
#ifndef CLOCKWISE_IPC_CONTROL_H
#define CLOCKWISE_IPC_CONTROL_H

#define MESSAGES           "ipc/control.def"
#define MESSAGE_ONE(name)  control_##name
#define MESSAGE_KIND(name) CONTROL_##name
#define MESSAGE_KINDS      control_kind
#define MESSAGE_ANY        control
#include "base/message_types.def"

#endif
