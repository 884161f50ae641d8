//! The service orchestration guide, line by line, through the library: `cargo test
//! test_service_orchestration`. Real processes, and stand-ins for `systemctl` and `nu`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod attacks;
mod elsewhere;
mod guide;
mod home;
mod troubles;

/// All of it is found by the guide's own command.
mod test_service_orchestration {
    use super::{attacks, elsewhere, guide, troubles};

    macro_rules! tests {
        ($($module:ident: $($name:ident)*;)*) => {
            $($(
                #[test]
                fn $name() {
                    crate::home::block_on($module::$name());
                }
            )*)*
        };
    }

    tests! {
        guide:
            a_chain_a_diamond_and_a_complex_graph_are_ordered
            a_subset_is_ordered_with_what_it_needs
            missing_and_circular_dependencies_are_named
            the_three_platform_services_start_in_order_and_stop_in_reverse
            a_service_is_started_with_what_it_needs_once
            all_are_started_but_those_that_fail_and_those_that_need_them
            what_is_needed_must_run_where_it_is_not_started_along
            health_is_what_the_endpoint_answers
            without_an_endpoint_health_is_that_of_the_process
            commands_that_need_a_shell_are_refused
            scripts_of_nu_are_run_by_it;
        troubles:
            a_service_that_fails_to_start_says_why
            what_does_not_answer_says_where_and_how
            a_corrected_command_is_used_by_the_next_start
            a_start_command_that_ends_without_an_endpoint_is_explained
            a_stop_command_that_fails_is_told;
        elsewhere:
            independent_services_start_at_the_same_time
            with_an_endpoint_alone_a_command_may_have_started_it_elsewhere
            a_service_elsewhere_fails_with_its_endpoint
            what_is_wrong_with_an_endpoint_is_said;
        attacks:
            hostile_names_reach_nothing
            two_orchestrators_have_no_directory_in_common
            services_outlive_their_orchestrator_and_are_found_again
            a_program_that_is_killed_half_way_is_begun_anew
            services_come_while_others_start
            output_that_is_no_text_is_shown
            without_a_shim_it_is_said_how_to_get_one
            a_restart_and_an_end_of_registration;
    }
}
