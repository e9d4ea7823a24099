package reason

// Reasons why a receiver left the hashring whose members are discovered.
const (
	// MemberLeaving: it has announced that it leaves for good.
	MemberLeaving Reason = "leaving"
	// MemberScaledDown: its StatefulSet has fewer pods now.
	MemberScaledDown Reason = "scaled_down"
	// MemberLost: it was neither found nor answered for the timeout.
	MemberLost Reason = "lost"
)
